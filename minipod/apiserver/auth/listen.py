"""TLS on 127.0.0.1 and on the pods' gateway addresses, and the kubeconfig that leads there. Nothing listens elsewhere unless
`api_addresses` asks for it.

HTTP/1.1 only: kubectl and client-go take what ALPN leaves them. A client certificate is verified if one is shown; who shows none may
still have a token.
"""

from __future__ import annotations

import base64
import re
import ssl
import time

from aiohttp import web

from minipod.api.store import Store
from minipod.apiserver.auth import ports
from minipod.apiserver.auth.pki import Leaf, Pki, write_private
from minipod.apiserver.auth.tokens import Tokens
from minipod.errors import InvalidSpec
from minipod.spec.instance import Instance

USER = re.compile(
    r"[A-Za-z0-9][-\w.@:]{0,63}"
)  # goes into file names and a certificate (ub-common-name)


def pki_of(instance: Instance) -> Pki:
    return Pki(f"{instance.state_dir}/pki", f"{instance.name} CA")


def tokens_of(instance: Instance, store: Store) -> Tokens:
    """Return the node's maker of tokens."""
    issuer = f"https://kubernetes.default.svc.{instance.cluster_domain}"
    return Tokens(store, pki_of(instance).token_key(), issuer, time.time)


def server_leaf(instance: Instance, node_name: str) -> Leaf:
    """Return the server's certificate as it must be: every name and address that a client may use."""
    service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    names = ("localhost", node_name, *service, f"{service[-1]}.{instance.cluster_domain}")
    addresses = (ports.LOOPBACK, "::1", *instance.gateways, *instance.api_addresses)
    hosts = dict.fromkeys((*names, *addresses))
    return Leaf(name="server", common_name="kube-apiserver", hosts=tuple(hosts))


ADMIN = Leaf(name="admin", common_name="kubernetes-admin", organizations=("system:masters",))


def context(pki: Pki) -> ssl.SSLContext:
    """Return the server's side of TLS."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(made, pki)
    made.load_verify_locations(pki.path("ca.crt"))
    made.verify_mode = ssl.CERT_OPTIONAL
    made.set_alpn_protocols(["http/1.1"])
    return made


def load(tls: ssl.SSLContext, pki: Pki) -> None:
    """Use the server's certificate for connections from now on."""
    tls.load_cert_chain(pki.path("server.crt"), pki.path("server.key"))


async def listen(runner: web.AppRunner, instance: Instance, tls: ssl.SSLContext) -> None:
    """Listen on every address where this runner does not yet. Raises Unavailable that names the one that can't be had."""
    port = instance.api_port
    held = {site.name for site in runner.sites}
    for address in ports.addresses(instance):
        site = web.TCPSite(runner, address, port, ssl_context=tls)
        if site.name in held:
            continue
        try:
            await site.start()
        except OSError as e:
            # aiohttp has noted the site already, and would try to close it at the end.
            await site.stop()
            raise ports.refusal(instance, address, e) from e


def write_kubeconfig(instance: Instance, pki: Pki, leaf: Leaf, path: str) -> None:
    """Write the kubeconfig (0600) of the user that *leaf* certifies, unless it is there already."""

    def data(name: str) -> str:
        return base64.b64encode(pki.read(name)).decode()

    text = KUBECONFIG.format(
        cluster=instance.name,
        server=f"https://{ports.LOOPBACK}:{instance.api_port}",
        user=leaf.common_name,
        ca=data("ca.crt"),
        certificate=data(f"{leaf.name}.crt"),
        key=data(f"{leaf.name}.key"),
    ).encode()
    try:
        with open(path, "rb") as f:
            if f.read() == text:
                return
    except FileNotFoundError:
        pass
    write_private(path, text)


KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
- name: "{cluster}"
  cluster:
    server: "{server}"
    certificate-authority-data: "{ca}"
users:
- name: "{user}"
  user:
    client-certificate-data: "{certificate}"
    client-key-data: "{key}"
contexts:
- name: "{user}@{cluster}"
  context:
    cluster: "{cluster}"
    user: "{user}"
    namespace: default
current-context: "{user}@{cluster}"
"""


def make_user(instance: Instance, name: str, groups: tuple[str, ...]) -> str:
    """Make a client certificate and a kubeconfig for the user *name*; return the kubeconfig's path. Raises InvalidSpec."""
    import asyncio  # only here: for the command line

    if not USER.fullmatch(name):
        raise InvalidSpec(
            f"{name!r} is not a user name", hint="letters, digits and -_.@:, up to 64"
        )
    leaf = Leaf(name=f"user-{name}", common_name=name, organizations=groups)
    pki = pki_of(instance)
    asyncio.run(pki.ensure([leaf]))
    path = f"{instance.kubeconfig}-{name}"
    write_kubeconfig(instance, pki, leaf, path)
    return path
