"""DNS, host name and /etc/hosts of a pod (K8S pkg/kubelet/network/dns/dns.go, kubelet_pods.go)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minipod.errors import InvalidSpec
from minipod.spec.sandbox import DnsConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from minipod.kubelet.rules.pods import Pod

_MAX_NAMESERVERS, _MAX_SEARCHES, _MAX_SEARCH_CHARS = 3, 32, 2048
_HOSTNAME_MAX, _FQDN_MAX = 63, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    """*config* None: a plain copy of the node's file; *warnings* are (event reason, message)."""

    config: DnsConfig | None
    warnings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What the node was told about its cluster."""

    domain: str = "cluster.local"
    dns: tuple[str, ...] = ()


def pod_dns(pod: Pod, cluster: Cluster, node: DnsConfig) -> Dns:
    """The pod's resolver; ClusterFirst without a cluster DNS falls back to Default."""
    policy, warnings = pod.dns_policy, []
    if policy == "ClusterFirst" and pod.host_network:
        policy = "Default"
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet"):
        if not cluster.dns:
            policy = "Default"
            warnings.append(("MissingClusterDNS", _missing(pod)))
        else:
            suffixes = (f"{pod.namespace}.svc.", "svc.", "")
            node = DnsConfig(
                servers=cluster.dns,
                searches=_unique((*(s + cluster.domain for s in suffixes), *node.searches)),
                options=("ndots:5",),
            )
    elif policy == "None":
        node = DnsConfig()
    if policy == "Default" and not pod.dns_config:
        return Dns(config=node if node.servers else None, warnings=tuple(warnings))
    config, cut = _limited(_appended(pod, node))
    return Dns(config=config, warnings=(*warnings, *cut))


def hostname(pod: Pod, node_name: str, cluster_domain: str) -> str:
    """The kernel host name: the pod's name cut to 63, the node's for a pod in its network.

    Raises InvalidSpec when setHostnameAsFQDN asks for a longer one than the kernel takes.
    """
    if pod.host_network:
        return node_name
    if pod.hostname_override:
        return pod.hostname_override
    full = fqdn(pod, cluster_domain)
    if not pod.hostname_as_fqdn or not full:
        return short_hostname(pod)
    if len(full) > _FQDN_MAX:
        raise InvalidSpec(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long"
            f" ({_FQDN_MAX} characters is the max, {len(full)} characters requested)"
        )
    return full


def short_hostname(pod: Pod) -> str:
    """The host name without a domain."""
    return pod.hostname or pod.name[:_HOSTNAME_MAX].rstrip("-.")


def fqdn(pod: Pod, cluster_domain: str) -> str:
    """The full name of a pod with a subdomain; "" without."""
    if not pod.subdomain:
        return ""
    return f"{short_hostname(pod)}.{pod.subdomain}.{pod.namespace}.svc.{cluster_domain}"


def hosts_file(pod: Pod, ips: Iterable[str], cluster_domain: str, node_hosts: str) -> str:
    """The managed /etc/hosts."""
    if pod.host_network:
        text = "# Kubernetes-managed hosts file (host network).\n" + node_hosts
    else:
        text = (
            "# Kubernetes-managed hosts file.\n"
            "127.0.0.1\tlocalhost\n"
            "::1\tlocalhost ip6-localhost ip6-loopback\n"
            "fe00::0\tip6-localnet\n"
            "fe00::0\tip6-mcastprefix\n"
            "fe00::1\tip6-allnodes\n"
            "fe00::2\tip6-allrouters\n"
        )
        short, full = short_hostname(pod), fqdn(pod, cluster_domain)
        names = f"{full}\t{short}" if full else short
        text += "".join(f"{ip}\t{names}\n" for ip in ips)
    if pod.host_aliases:
        lines = ("\t".join((a["ip"], *(a.get("hostnames") or ()))) for a in pod.host_aliases)
        text += "\n# Entries added by HostAliases.\n" + "".join(f"{line}\n" for line in lines)
    return text


def _missing(pod: Pod) -> str:
    return (
        f'pod: "{pod.name}_{pod.namespace}({pod.uid})". kubelet does not have ClusterDNS IP '
        f'configured and cannot create Pod using "{pod.dns_policy}" policy. '
        f'Falling back to "Default" policy.'
    )


def _appended(pod: Pod, base: DnsConfig) -> DnsConfig:
    extra = pod.dns_config
    options = {o.partition(":")[0]: o for o in base.options}
    for option in extra.get("options") or ():
        value = option.get("value")
        options[option["name"]] = option["name"] if value is None else f"{option['name']}:{value}"
    return DnsConfig(
        servers=_unique((*base.servers, *(extra.get("nameservers") or ()))),
        searches=_unique((*base.searches, *(extra.get("searches") or ()))),
        options=tuple(options.values()),
    )


def _limited(config: DnsConfig) -> tuple[DnsConfig, tuple[tuple[str, str], ...]]:
    warnings = []
    servers, searches = config.servers[:_MAX_NAMESERVERS], config.searches[:_MAX_SEARCHES]
    if servers != config.servers:
        text = (
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied "
            f"nameserver line is: {' '.join(servers)}"
        )
        warnings.append(("DNSConfigForming", text))
    while len(" ".join(searches)) > _MAX_SEARCH_CHARS:
        searches = searches[:-1]
    if searches != config.searches:
        text = (
            "Search Line limits were exceeded, some search paths have been omitted, the applied "
            f"search line is: {' '.join(searches)}"
        )
        warnings.append(("DNSConfigForming", text))
    limited = DnsConfig(servers=servers, searches=searches, options=config.options)
    return limited, tuple(warnings)


def _unique(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))
