"""May this pod run here? The kubelet's admission: operating system, sysctls, AppArmor, the node it wants, taints, ports, amounts.

K8S pkg/kubelet/lifecycle/predicate.go, sysctl/allowlist.go, apparmor/validate.go and the scheduler's plugins that it calls: node affinity,
taints (NoExecute only, not for static pods), node ports, fit. A refused pod is Failed at once, with reason and message, and never
tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minipod.api import placement
from minipod.kubelet.rules import qos

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from minipod.kubelet.rules.pods import Pod

SAFE_SYSCTLS = frozenset({
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
})  # fmt: skip
NAMESPACED = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.", "net.")
MEMORY_PRESSURE, DISK_PRESSURE = "MemoryPressure", "DiskPressure"
_ANY = ("", "0.0.0.0", "::")  # noqa: S104 what a manifest says, nothing listens here
HostPort = tuple[str, str, int]  # protocol, address, port


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one pod takes of the node."""

    amounts: Mapping[str, int] = field(default_factory=dict)  # cpu in thousandths, others whole
    ports: frozenset[HostPort] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the node has, and what its operator allows."""

    allocatable: Mapping[str, int] = field(default_factory=dict)  # units as in Claim
    unsafe_sysctls: tuple[str, ...] = ()  # names, or prefixes that end in "*"
    no_apparmor: Mapping[str, str] = field(default_factory=dict)  # profile type -> why not here
    node: placement.NodeFacts | None = None  # None: every pod wants it
    pressure: tuple[str, ...] = ()  # the node's conditions that keep pods out: MemoryPressure, ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why not: the pod's status.reason, and the message."""

    reason: str
    message: str


def claim(pod: Pod) -> Claim:
    """Return what *pod* takes."""
    return Claim(amounts={**qos.requests(pod), "pods": 1}, ports=frozenset(host_ports(pod)))


def host_ports(pod: Pod) -> Iterable[HostPort]:
    """The ports of the node that the pod wants; in the node's network every port that it names."""
    for container in pod.containers:
        for port in container.ports:
            number = port.get("hostPort") or (port["containerPort"] if pod.host_network else 0)
            if number:
                address = port.get("hostIP") or ""
                yield (port.get("protocol") or "TCP", address, int(number))


def admit(pod: Pod, others: Iterable[Claim], limits: Limits) -> Refusal | None:
    """Return why *pod* may not run beside *others*; None when it may."""
    wanted = claim(pod)
    taken = list(others)
    return (
        _pressure(pod, limits.pressure)
        or _system(pod, limits)
        or _sysctls(pod, limits.unsafe_sysctls)
        or _placement(pod, limits.node)
        or _ports(wanted, taken)
        or lacking(wanted, taken, limits)
    )


def _pressure(pod: Pod, conditions: tuple[str, ...]) -> Refusal | None:
    """Short of memory a node takes no BestEffort pod, short of disk none at all; critical pods always (eviction_manager.go: Admit)."""
    if not conditions or pod.is_critical:
        return None
    if conditions == (MEMORY_PRESSURE,):
        taint = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}
        tolerations = (pod.raw.get("spec") or {}).get("tolerations") or ()
        if qos.qos_class(pod) != "BestEffort" or not placement.untolerated((taint,), tolerations):
            return None
    words = f"The node had condition: [{' '.join(conditions)}]. "
    return Refusal(reason="Evicted", message=words)


def _system(pod: Pod, limits: Limits) -> Refusal | None:
    if pod.os_name not in ("", "linux"):
        words = "Failed to admit pod as the OS field doesn't match node OS"
        return Refusal(reason="PodOSNotSupported", message=words)
    for context in _contexts(pod):
        profile = context.get("appArmorProfile")
        kind = profile.get("type", "") if isinstance(profile, dict) else ""
        if kind in limits.no_apparmor:
            words = f"Cannot enforce AppArmor: {limits.no_apparmor[kind]}"
            return Refusal(reason="AppArmor", message=words)
    return None


def _contexts(pod: Pod) -> Iterable[Mapping[str, object]]:
    yield pod.security_context
    for container in pod.all_containers:
        yield container.security_context


def _sysctls(pod: Pod, unsafe: tuple[str, ...]) -> Refusal | None:
    for sysctl in pod.security_context.get("sysctls") or ():
        name = sysctl["name"].replace("/", ".")
        if not (name in SAFE_SYSCTLS or _listed(name, unsafe)):
            words = f'forbidden sysctl: "{name}" not allowlisted'
            return Refusal(reason="SysctlForbidden", message=words)
    return None


def _listed(name: str, allowed: tuple[str, ...]) -> bool:
    """An operator can allow only what a namespace holds: anything else would be the node's."""
    if not name.startswith(NAMESPACED):
        return False
    return any(name.startswith(a[:-1]) if a.endswith("*") else name == a for a in allowed)


def _placement(pod: Pod, node: placement.NodeFacts | None) -> Refusal | None:
    if node is None:
        return None
    if not placement.wants(pod.raw.get("spec") or {}, node):
        return predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
    tolerations = (pod.raw.get("spec") or {}).get("tolerations") or ()
    if not pod.is_static and placement.untolerated(placement.no_execute(node), tolerations):
        return predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    return None


def predicate(name: str, words: str) -> Refusal:
    """The refusal of one of the scheduler's plugins (PredicateFailureError)."""
    return Refusal(reason=name, message=f"Predicate {name} failed: {words}")


def _ports(wanted: Claim, taken: list[Claim]) -> Refusal | None:
    if not wanted.ports:
        return None
    used = {port for other in taken for port in other.ports}
    for protocol, address, number in wanted.ports:
        for other_protocol, other, other_number in used:
            same = (protocol, number) == (other_protocol, other_number)
            if same and (address == other or address in _ANY or other in _ANY):
                words = "node(s) didn't have free ports for the requested pod ports"
                return predicate("NodePorts", words)
    return None


def lacking(wanted: Claim, taken: list[Claim], limits: Limits) -> Refusal | None:
    """Return what of *wanted* is not free beside *taken*."""
    for name, (asked, used, capacity) in shortfalls(wanted, taken, limits).items():
        words = (
            f"Node didn't have enough resource: {name}, requested: {asked}, used: {used},"
            f" capacity: {capacity}"
        )
        return Refusal(reason=f"OutOf{name}", message=words)
    return None


def shortfalls(
    wanted: Claim, taken: Iterable[Claim], limits: Limits
) -> dict[str, tuple[int, int, int]]:
    """What of *wanted* is not free beside *taken*: resource -> requested, used, capacity."""
    others, found = list(taken), {}
    for name, amount in wanted.amounts.items():
        if not amount:
            continue
        used = sum(other.amounts.get(name, 0) for other in others)
        capacity = limits.allocatable.get(name, 0)
        if used + amount > capacity:
            found[name] = (amount, used, capacity)
    return found
