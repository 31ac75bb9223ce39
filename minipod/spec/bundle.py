"""What the supervisor is asked to build: everything resolved, nothing left to look up.

The runtime joins a `ContainerSpec`, the image's config and the sandbox into one `Bundle`; the supervisor
receives it as JSON in a sealed memfd, and `minipod.init.plan` turns it into a list of operations. Users are
numbers here, the command has its final words, paths on the host are absolute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from minipod.spec.container import Device, Mount, Resources, SeccompMode
from minipod.spec.sandbox import NamespaceMode, UserNamespace


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process as execve and the credentials calls see it."""

    argv: tuple[str, ...]
    env: tuple[str, ...]  # "NAME=value"
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    capabilities: tuple[str, ...] = ()  # names without CAP_, what remains of the bounding set
    no_new_privs: bool = False
    seccomp: SeccompMode = SeccompMode.RUNTIME_DEFAULT
    seccomp_profile: str = ""  # the JSON text, for LOCALHOST: an exec gets what its container got
    apparmor: str = ""  # the AppArmor profile to enter; "": none
    rlimits: tuple[tuple[str, int, int], ...] = ()
    oom_score_adj: int = 0
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False  # it has one client, to which the pump tells what it said before


@dataclass(frozen=True, slots=True, kw_only=True)
class RootFs:
    """An overlay: *lower* is top first; *upper* and *work* are new directories of one file system."""

    lower: tuple[str, ...]
    upper: str
    work: str
    mountpoint: str
    readonly: bool = False
    mapped: bool = False  # the owners in *lower* are ids of the pod's user namespace

    def options(self, lower: Sequence[str]) -> str:
        """Return the options of the mount. `volatile`: its upper directory dies with the container, so nobody waits for a sync at
        unmount (overlayfs.rst)."""
        return f"volatile,lowerdir={':'.join(lower)},upperdir={self.upper},workdir={self.work}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One container, ready to be built. *title* is `namespace/pod/container`."""

    id: str
    sandbox_id: str
    title: str
    directory: str  # <run_dir>/containers/<id>: record, FIFOs, mount point
    log_path: str  # absolute
    cgroup: str  # below each hierarchy's root
    resources: Resources = field(default_factory=Resources)
    privileged: bool = False
    rootfs: RootFs
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    network: NamespaceMode = NamespaceMode.POD
    ipc: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.CONTAINER
    target_pid: int = 0  # whose pid namespace to join, for NamespaceMode.TARGET
    userns: UserNamespace | None = None  # the sandbox's; the process' ids are inside of it
    process: Process
    cause: str = ""  # manifest path of the container
    fail_at: str = (
        ""  # fault injection: the operation that is to fail with EIO, or "hang:" and its name
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxBundle:
    """One sandbox, ready to be built."""

    id: str
    title: str  # namespace/pod
    hostname: str
    cgroup: str
    resources: Resources = field(default_factory=Resources)
    network: NamespaceMode = NamespaceMode.POD
    ipc: NamespaceMode = NamespaceMode.POD
    userns: UserNamespace | None = None
    sysctls: tuple[tuple[str, str], ...] = ()
    shm_size: int = 64 << 20
    fail_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecBundle:
    """One more process in a running container."""

    id: str
    container_id: str
    process: Process
    fail_at: str = ""
