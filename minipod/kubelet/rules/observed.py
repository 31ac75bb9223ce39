"""What the runtime and the prober say about one pod, as values for the rules.

The rules know no runtime type: `kubelet.translate` makes these from `runtime.service` statuses.
Times are seconds since the epoch, 0.0 = not yet.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from minipod.kubelet.rules.probe import ProbeResult
    from minipod.spec.container import Resources


class State(enum.Enum):
    """A container instance as the runtime sees it."""

    CREATED = "CREATED"
    RUNNING = "RUNNING"
    EXITED = "EXITED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The crash-loop entry of a container: written when a start is decided, kept with the
    instance."""

    delay: float  # seconds that the next start waits after the exit
    decided_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One container instance."""

    name: str
    id: str
    sandbox_id: str = ""
    state: State
    restart_count: int = 0
    spec_hash: str = ""
    image: str = ""
    image_id: str = ""
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    backoff: Backoff | None = None
    resources: Resources | None = None  # what it runs with

    @property
    def failed(self) -> bool:
        """Ended badly, or nobody knows how."""
        return self.state is State.UNKNOWN or (self.state is State.EXITED and self.exit_code != 0)

    @property
    def succeeded(self) -> bool:
        return self.state is State.EXITED and self.exit_code == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """One sandbox of the pod."""

    id: str
    attempt: int = 0
    ready: bool = True
    host_network: bool = False
    ips: tuple[str, ...] = ()
    created_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """All sandboxes and containers of a pod, newest first."""

    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Instance, ...] = ()

    def newest(self, name: str, sandbox_id: str | None = None) -> Instance | None:
        """The newest instance of container *name* (in that sandbox)."""
        for instance in self.containers:
            if instance.name == name and sandbox_id in (None, instance.sandbox_id):
                return instance
        return None

    def since(self, moment: float) -> Observed:
        """Without the containers that were created before *moment*."""
        if not moment:
            return self
        kept = tuple(c for c in self.containers if c.created_at >= moment)
        return replace(self, containers=kept)

    def instances(self, name: str) -> tuple[Instance, ...]:
        return tuple(c for c in self.containers if c.name == name)

    @property
    def sandbox(self) -> Sandbox | None:
        """The newest sandbox."""
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def anything_alive(self) -> bool:
        """Something still runs or holds namespaces."""
        return any(s.ready for s in self.sandboxes) or any(
            c.state in (State.RUNNING, State.CREATED, State.UNKNOWN) for c in self.containers
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResults:
    """Probe results by container id; a missing id means: no result yet."""

    readiness: Mapping[str, ProbeResult] = field(default_factory=dict)
    liveness: Mapping[str, ProbeResult] = field(default_factory=dict)
    startup: Mapping[str, ProbeResult] = field(default_factory=dict)
