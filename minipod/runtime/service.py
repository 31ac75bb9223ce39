"""The runtime's face: the CRI's verbs with Python types. `kubelet/` and `cri/` know only this.

Theory of operation: a sandbox owns what a pod's containers share, a container is created (everything
that can fail has failed, its process is parked before execve), started, exits, is removed. Stop and
remove are idempotent; create-verbs undo themselves when they fail. Errors are those of
`minipod.errors`: NotFound, AlreadyExists, FailedPrecondition, SetupFailed, ImageError, Unavailable,
DeadlineExceeded. Times are seconds since the epoch (float); 0.0 means "not yet".
Source of the rules: the comments of the CRI's api.proto.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from minipod.image.registry.progress import Tell, quiet
from minipod.spec.container import ContainerSpec, Resources
from minipod.spec.ids import ContainerId, SandboxId
from minipod.spec.registry import ANONYMOUS, AuthConfig
from minipod.spec.sandbox import SandboxSpec


class SandboxState(enum.Enum):
    READY = "READY"
    NOTREADY = "NOTREADY"


class ContainerState(enum.Enum):
    """Derived from the record: created -> started_at -> finished_at."""

    CREATED = "CREATED"
    RUNNING = "RUNNING"
    EXITED = "EXITED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxStatus:
    """One sandbox; *ips* is empty until the network is up and for host network."""

    id: SandboxId
    spec: SandboxSpec
    state: SandboxState
    created_at: float
    ips: tuple[str, ...] = ()  # IPv4 first
    namespaces: tuple[tuple[str, str], ...] = ()  # ("net", "net:[4026532281]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStatus:
    """One container. *exit_code* is 128 + signal for a killed process, as Kubernetes counts."""

    id: ContainerId
    sandbox_id: SandboxId
    spec: ContainerSpec
    image_ref: str  # what was asked for, resolved: "docker.io/library/busybox:1.36"
    image_id: str  # "sha256:..." of the image's config
    state: ContainerState
    pid: int = 0  # in the host's pid namespace, 0 when not running
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    signal: int = 0
    reason: str = ""  # Completed, Error, OOMKilled, StartError, ContainerStatusUnknown
    message: str = ""
    oom_killed: bool = False
    log_path: str = ""  # absolute
    log_complete: bool = True  # of an ended one: nothing more comes into its log
    cgroup: str = ""  # below each hierarchy's root
    image_digest: str = ""  # how its registry pins it: "docker.io/library/busybox@sha256:..."


class EventType(enum.Enum):
    CONTAINER_CREATED = "CONTAINER_CREATED"
    CONTAINER_STARTED = "CONTAINER_STARTED"
    CONTAINER_EXITED = "CONTAINER_EXITED"
    CONTAINER_REMOVED = "CONTAINER_REMOVED"
    CONTAINER_OOM = "CONTAINER_OOM"  # a process of it was killed; pid 1 may live on
    CONTAINER_LOG_FULL = "CONTAINER_LOG_FULL"  # its log has reached the size at which it is rotated
    CONTAINER_LOG_COMPLETE = "CONTAINER_LOG_COMPLETE"  # ended, and all that it said is in its log
    SANDBOX_CHANGED = "SANDBOX_CHANGED"
    RECOVERED = (
        "RECOVERED"  # another supervisor is there: what failed without one can be tried again
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeEvent:
    """Something changed: look at the sandbox again. *detail* names an OOM-killed process."""

    type: EventType
    sandbox_id: SandboxId  # "" for RECOVERED, which concerns all
    container_id: ContainerId | None = None
    pod_uid: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """The end of an exec_sync: both outputs, each cut at the asked-for limit."""

    stdout: bytes
    stderr: bytes
    exit_code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecSession:
    """A running exec, or an attach. The fds are the caller's (non-blocking, to be closed by it); -1 = none.

    With a tty there is one fd, the pty's master: stdin_fd is a duplicate of it and stderr_fd is -1. An exec ends with its process
    (`exec_wait`), an attach with its output; whoever attached calls `detach` in the end.
    """

    id: str
    stdin_fd: int
    stdout_fd: int
    stderr_fd: int
    attached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStatus:
    """One image of the store."""

    id: str  # "sha256:..." of its config
    repo_tags: tuple[str, ...]
    repo_digests: tuple[str, ...]
    size: int  # bytes of its blobs
    user: str = ""  # the config's User
    made_here: bool = False  # from a recipe on this node: no registry has a newer one


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStats:
    """What a running container uses now (CRI ContainerStats)."""

    id: ContainerId
    pod_uid: str
    name: str
    cpu_ns: int = 0  # since its start
    memory: int = 0  # bytes, with the page cache
    working_set: int = 0  # bytes
    processes: int = 0


Begun = Callable[[SandboxStatus], None]
CreateBegun = Callable[[ContainerId], None]


class RuntimeService(Protocol):
    """The verbs that concern sandboxes and containers."""

    def subscribe(self, callback: Callable[[RuntimeEvent], None]) -> Callable[[], None]:
        """Call *callback* in the loop for each event from now on; return the way to unsubscribe."""

    async def run_pod_sandbox(self, spec: SandboxSpec, begun: Begun | None = None) -> SandboxId:
        """Make the sandbox: namespaces pinned, cgroup, network up. Raises SetupFailed.

        *begun* is called when its id and addresses are known, before the rest is there: from then on containers can be created in it,
        whose creation ends when it is ready, and fails when it does. It is not called for one whose containers share a pid namespace.
        """

    async def stop_pod_sandbox(self, sandbox: SandboxId) -> None:
        """Kill what runs in it, give its address back, drop its namespaces. Idempotent."""

    async def remove_pod_sandbox(self, sandbox: SandboxId) -> None:
        """Remove it, its containers and its cgroup. Idempotent."""

    async def pod_sandbox_status(self, sandbox: SandboxId) -> SandboxStatus:
        """Raises NotFound."""

    async def list_pod_sandboxes(self, pod_uid: str | None = None) -> list[SandboxStatus]:
        """All sandboxes, newest attempt first."""

    async def create_container(
        self,
        sandbox: SandboxId,
        spec: ContainerSpec,
        begun: CreateBegun | None = None,
    ) -> ContainerId:
        """Set everything up and park the process before execve. Raises SetupFailed, ImageError.

        *begun* hears its id when its process is being made: it may be started from then on.
        """

    async def start_container(self, container: ContainerId) -> None:
        """Execve, when it is created. Raises SetupFailed when the command can't be executed (the container is EXITED, 128),
        FailedPrecondition when it can't be created."""

    async def stop_container(self, container: ContainerId, timeout: float) -> None:
        """Send its stop signal, after *timeout* seconds SIGKILL; return when it is gone. Idempotent.

        A second call with a shorter timeout shortens the first.
        """

    async def remove_container(self, container: ContainerId) -> None:
        """Remove it (killing it if it runs), its root file system and cgroup. Idempotent."""

    async def container_status(self, container: ContainerId) -> ContainerStatus:
        """Raises NotFound."""

    async def list_containers(self, pod_uid: str | None = None) -> list[ContainerStatus]:
        """All containers, newest first."""

    async def list_container_stats(self) -> list[ContainerStats]:
        """Read what every running container uses."""

    async def update_pod_sandbox_resources(self, sandbox: SandboxId, to: Resources) -> None:
        """Write new limits of the pod's own cgroup."""

    async def update_container_resources(self, container: ContainerId, to: Resources) -> None:
        """Write new limits of a running container."""

    async def reopen_container_log(self, container: ContainerId) -> None:
        """Make the log pump write to a fresh file at the log path (after a rotation)."""

    async def exec_sync(
        self,
        container: ContainerId,
        command: tuple[str, ...],
        timeout: float,
        limit: int = 16 << 20,
    ) -> ExecResult:
        """Run *command*; timeout 0 = none. DeadlineExceeded kills its whole session.

        Raises FailedPrecondition when the container is not running; SetupFailed when the command
        can't be executed.
        """

    async def exec(
        self, container: ContainerId, command: tuple[str, ...], *, tty: bool, stdin: bool
    ) -> ExecSession:
        """Start *command* with pipes, or with a pty; with pipes that it can't be started is told by `exec_wait`."""

    async def exec_wait(self, session: str) -> int:
        """Wait for the end of an exec; return its exit code (128 + signal when killed). Raises SetupFailed when it never began."""

    async def exec_resize(self, session: str, rows: int, columns: int) -> None:
        """Set the window size of the pty of an exec or attach."""

    async def exec_kill(self, session: str, signal: int) -> None:
        """Signal an exec's whole session; nothing happens when its first process has ended."""

    async def attach(self, container: ContainerId, *, stdin: bool) -> ExecSession:
        """Return a live copy of the container's output from now on, and its stdin if it has one.

        A client that is more than eight megabytes behind is cut off: its output ends. Raises FailedPrecondition when it does not run.
        """

    async def attach_wait(self, session: str) -> None:
        """Return when the container of an attach has ended; asked at the end of its output. Raises FailedPrecondition: cut off before."""

    async def close_stdin(self, session: str) -> None:
        """The client of an attach sends no more: with stdin_once the container reads the end of its stdin."""

    async def detach(self, session: str) -> None:
        """End an attach; with stdin_once this closes the container's stdin, too. Idempotent."""

    async def port_forward(self, sandbox: SandboxId, port: int) -> socket.socket:
        """Connect to localhost:*port* inside the sandbox's network namespace; the non-blocking socket is the caller's.

        IPv4, then IPv6. Raises FailedPrecondition when nothing listens there or nothing runs in the sandbox.
        """


class ImageService(Protocol):
    """The verbs that concern images."""

    async def image_status(self, image: str) -> ImageStatus | None:
        """Look *image* (any reference, or an id) up; None when it is not here. Raises ImageError."""

    async def list_images(self) -> list[ImageStatus]:
        """All images."""

    async def pull_image(
        self,
        image: str,
        auth: AuthConfig = ANONYMOUS,
        *,
        platform: str = "",
        tell: Tell = quiet,
    ) -> ImageStatus:
        """Bring *image* up to date with its registry; nothing is fetched that is here. Raises ImageError.

        *platform*: os/architecture[/variant], "" = the machine's. *tell* hears of each layer.
        """

    async def remove_image(self, image: str) -> None:
        """Remove the tag, and with the last tag the image. Raises FailedPrecondition when in use."""
