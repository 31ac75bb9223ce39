"""What a pod sandbox is asked to be: the CRI's PodSandboxConfig with Python types.

A sandbox owns the network, ipc and uts namespaces, one /dev/shm, and the pod's cgroup. Values only.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from minipod.spec.container import Resources


class NamespaceMode(enum.Enum):
    """Whose namespace a container lives in (CRI NamespaceMode)."""

    POD = "POD"
    CONTAINER = "CONTAINER"
    NODE = "NODE"
    TARGET = "TARGET"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxMetadata:
    """Who the sandbox is for; *attempt* counts re-creations for the same pod."""

    name: str
    namespace: str
    uid: str
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsConfig:
    """The content of /etc/resolv.conf, as three lists."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """A host port that leads to a port of the pod."""

    protocol: str  # TCP, UDP, SCTP
    container_port: int
    host_port: int
    host_ip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """Limits of a pod's link in bits a second; 0 is no limit."""

    ingress: int = 0
    egress: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UserNamespace:
    """Ids 0 to *length* - 1 of the pod, users and groups alike, are *first* and onwards on the host (user_namespaces(7))."""

    first: int
    length: int = 1 << 16

    def host(self, inside: int) -> int:
        """Return what the host calls a pod's id."""
        return self.first + inside


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """One pod sandbox.

    *cgroup_parent* is the pod's cgroup: ours, below the instance's root, or with a leading slash the caller's own (a kubelet makes the
    pods' cgroups itself): then we make only the containers' cgroups below it, and neither limit nor remove it.
    """

    metadata: SandboxMetadata
    hostname: str
    log_directory: str  # absolute; the containers' log paths are relative to it
    cgroup_parent: str  # e.g. "kubepods/burstable/pod<uid>"
    pod_resources: Resources = field(default_factory=Resources)  # limits of the pod's own cgroup
    network: NamespaceMode = NamespaceMode.POD
    ipc: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.CONTAINER
    # None: the node's; one of its own wants POD for network and ipc
    userns: UserNamespace | None = None
    dns: DnsConfig | None = None  # None: a copy of the node's resolv.conf
    port_mappings: tuple[PortMapping, ...] = ()
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    sysctls: tuple[tuple[str, str], ...] = ()
    shm_size: int = 64 << 20  # bytes
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def owns_cgroup(self) -> bool:
        """Whether the pod's cgroup is ours to limit and to remove."""
        return not self.cgroup_parent.startswith("/")

    def cgroup(self, root: str) -> str:
        """Return the pod's cgroup from the root of the hierarchies; *root* is the instance's."""
        return f"{root}/{self.cgroup_parent}" if self.owns_cgroup else self.cgroup_parent.strip("/")
