"""What a container is asked to be: the CRI's ContainerConfig with Python types, values only.

A `ContainerSpec` comes from the caller of the runtime; the runtime turns it, together with the
image's config, into the flat `ProcessSpec` and mounts that `minipod.init` executes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Propagation(enum.Enum):
    """Mount propagation of a volume (CRI MountPropagation)."""

    PRIVATE = "private"
    HOST_TO_CONTAINER = "rslave"
    BIDIRECTIONAL = "rshared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Bind *host_path* over *container_path*; *cause* is the manifest path that asked for it."""

    host_path: str
    container_path: str
    image: str = ""  # instead of host_path: show the files of an image
    layers: tuple[str, ...] = ()  # of the image, top first; the runtime's to fill in
    readonly: bool = False
    recursive_readonly: bool = False
    propagation: Propagation = Propagation.PRIVATE
    sub_path: str = ""  # resolved inside host_path; no symlink can escape it
    # the owners on the disk are ids of the pod's user namespace: id-mapped mount
    mapped: bool = False
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device node of the host, made in the container's /dev."""

    host_path: str
    container_path: str
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits in the kernel's own units; None leaves the kernel's default (no limit).

    The kubelet's formulas from requests and limits to these are in `kubelet/rules/qos.py`.
    """

    cpu_shares: int | None = None  # v1 unit, 2..262144; v2's weight derives from it
    cpu_quota: int | None = None  # microseconds per period; -1 = no limit
    cpu_period: int | None = None  # microseconds
    memory_limit: int | None = None  # bytes
    pids_limit: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    hugepage_limits: dict[str, int] = field(default_factory=dict)  # "2MB" -> bytes
    oom_group: bool = False  # v2 memory.oom.group: the kernel kills the whole container
    unified: dict[str, str] = field(default_factory=dict)  # v2 file -> value, written as they are


class SeccompMode(enum.Enum):
    """Which seccomp filter a container runs under (CRI SecurityProfile.ProfileType)."""

    RUNTIME_DEFAULT = "RuntimeDefault"
    UNCONFINED = "Unconfined"
    LOCALHOST = "Localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Identity and privileges (CRI LinuxContainerSecurityContext)."""

    privileged: bool = False
    run_as_user: int | None = None
    run_as_username: str = ""  # resolved in the image's passwd; may be "name:group" from the image
    run_as_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    only_supplemental_groups: bool = False  # Strict: without those of the image's group file
    add_capabilities: tuple[str, ...] = ()  # without the CAP_ prefix; "ALL"
    drop_capabilities: tuple[str, ...] = ()
    no_new_privs: bool = False
    readonly_rootfs: bool = False
    seccomp: SeccompMode = SeccompMode.RUNTIME_DEFAULT
    seccomp_profile: str = ""  # absolute path of a profile in JSON, for LOCALHOST
    apparmor: str = ""  # the AppArmor profile's name; "": unconfined
    masked_paths: tuple[str, ...] | None = None  # None: the default list
    readonly_paths: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """One container inside a sandbox; *image* is an ImageId or a name the image store resolves."""

    name: str
    attempt: int = 0
    image: str
    command: tuple[str, ...] = ()  # replaces the image's entrypoint
    args: tuple[str, ...] = ()  # replaces the image's cmd
    working_dir: str = ""
    envs: tuple[tuple[str, str], ...] = ()  # added to the image's env; later wins
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    resources: Resources = field(default_factory=Resources)
    security: Security = field(default_factory=Security)
    oom_score_adj: int = 0
    rlimits: tuple[tuple[str, int, int], ...] = ()  # ("RLIMIT_NOFILE", soft, hard)
    log_path: str = ""  # relative to the sandbox's log directory, e.g. "app/0.log"
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    stop_signal: str = ""  # "" = the image's, else SIGTERM
    pid_target: str = ""  # the container whose pid namespace this one joins (NamespaceMode.TARGET)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    cause: str = ""  # the manifest path of this container, e.g. "spec.containers[0]"
