"""May this pod run here? The kubelet's admission: operating system, sysctls, AppArmor, ports, amounts.

K8S pkg/kubelet/lifecycle/predicate.go, sysctl/allowlist.go, apparmor/validate.go and the scheduler's node ports and fit plugins that
it calls. A refused pod is Failed at once, with reason and message, and never tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
    apparmor: bool = False  # the kernel has it, so that the words differ: no profile is loaded


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
        _system(pod, limits)
        or _sysctls(pod, limits.unsafe_sysctls)
        or _ports(wanted, taken)
        or _amounts(wanted, taken, limits)
    )


def _system(pod: Pod, limits: Limits) -> Refusal | None:
    if pod.os_name not in ("", "linux"):
        words = "Failed to admit pod as the OS field doesn't match node OS"
        return Refusal(reason="PodOSNotSupported", message=words)
    if any(_wants_apparmor(c) for c in _contexts(pod)):
        why = (
            "minipod loads no profiles yet"
            if limits.apparmor
            else "AppArmor is not enabled on the host"
        )
        words = f"Cannot enforce AppArmor: {why}"
        return Refusal(reason="AppArmor", message=words)
    return None


def _contexts(pod: Pod) -> Iterable[Mapping[str, object]]:
    yield pod.security_context
    for container in pod.all_containers:
        yield container.security_context


def _wants_apparmor(context: Mapping[str, object]) -> bool:
    profile = context.get("appArmorProfile")
    return isinstance(profile, dict) and profile.get("type") != "Unconfined"


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


def _ports(wanted: Claim, taken: list[Claim]) -> Refusal | None:
    used = {port for other in taken for port in other.ports}
    for protocol, address, number in wanted.ports:
        for other_protocol, other, other_number in used:
            same = (protocol, number) == (other_protocol, other_number)
            if same and (address == other or address in _ANY or other in _ANY):
                return Refusal(reason="NodePorts", message="Predicate NodePorts failed")
    return None


def _amounts(wanted: Claim, taken: list[Claim], limits: Limits) -> Refusal | None:
    for name, amount in wanted.amounts.items():
        used = sum(other.amounts.get(name, 0) for other in taken)
        capacity = limits.allocatable.get(name, 0)
        if amount and used + amount > capacity:
            words = (
                f"Node didn't have enough resource: {name}, requested: {amount}, used: {used},"
                f" capacity: {capacity}"
            )
            return Refusal(reason=f"OutOf{name}", message=words)
    return None
