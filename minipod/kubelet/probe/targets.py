"""What crosses the prober's socket: frozen values, one JSON object per line.

daemon -> prober   Command(sync: all pods | pod: one pod's targets, none removes it)
prober -> daemon   Report(result: a result changed, or the answer to sync | attempt: one failed)
"""

from __future__ import annotations

from dataclasses import dataclass, field

from minipod.kubelet.rules.probe import Outcome, ProbeKind, ProbeResult, Thresholds


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpGet:
    """A GET; the port is resolved, *host* is an address or a name."""

    host: str
    port: int
    path: str = "/"
    scheme: str = "HTTP"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSocket:
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """Exactly one is set."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec: Exec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One probe of one container, and the container as the daemon sees it now."""

    pod_uid: str
    container: str
    kind: ProbeKind
    handler: Handler
    container_id: str = ""
    running: bool = False
    started_at: float = 0.0
    startup_gate: bool = False  # the container has a startup probe too
    stopping: bool = False  # pod being deleted: liveness and startup stop, readiness goes on
    known: ProbeResult | None = None  # what the daemon remembers, for a prober that lost its state
    timeout: float = 1.0
    period: float = 10.0
    initial_delay: int = 0
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.pod_uid, self.container, self.kind.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """*uids* are the pods concerned; with *sync* every other pod is forgotten."""

    sync: bool = False
    uids: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The state of one probe, or (with *attempt*) one attempt that did not succeed."""

    pod_uid: str
    container: str
    kind: ProbeKind
    container_id: str
    result: ProbeResult
    attempt: Outcome | None = None
    output: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What one handler run told."""

    outcome: Outcome
    output: str = ""
