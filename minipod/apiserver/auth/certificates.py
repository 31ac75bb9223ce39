"""Which certificates a node has, and for which names (`pki` keeps them, whatever they are for). Light: the command line imports it."""

from __future__ import annotations

from minipod.apiserver.auth import ports
from minipod.apiserver.auth.pki import Leaf, Pki
from minipod.spec.instance import Instance

ADMIN = Leaf(name="admin", common_name="kubernetes-admin", organizations=("system:masters",))


def pki_of(instance: Instance) -> Pki:
    return Pki(f"{instance.state_dir}/pki", f"{instance.name} CA")


def server_leaf(instance: Instance, node_name: str) -> Leaf:
    """Return the server's certificate as it must be: every name and address that a client may use."""
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    names = ("localhost", node_name, *service, f"{service[-1]}.{instance.cluster_domain}")
    addresses = (ports.LOOPBACK, "::1", *instance.gateways, *instance.api_addresses)
    hosts = [host for host in dict.fromkeys((*names, *addresses)) if host not in ports.EVERYWHERE]
    return Leaf(name="server", common_name="kube-apiserver", hosts=tuple(hosts))
