"""What crosses the prober's socket: frozen values, one JSON object per line.

daemon -> prober   Command(sync: the pods that exist | one pod's targets, none removes it | ask: metrics, the probes of a pod)
prober -> daemon   News(reports: a result changed, an attempt failed, or the answer to sync | answer: to `ask`)
"""

from __future__ import annotations

from dataclasses import dataclass, field

from minipod.kubelet.rules.probe import Outcome, ProbeKind, ProbeResult, Thresholds


def socket_path(run_dir: str) -> str:
    """Where the prober of a node listens."""
    return f"{run_dir}/prober.sock"


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
class Grpc:
    """grpc.health.v1.Health/Check of *service* ("": the server as a whole)."""

    host: str
    port: int
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exec:
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """Exactly one is set; *error* instead when the manifest's handler means nothing, like an unknown port name."""

    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec: Exec | None = None
    grpc: Grpc | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One probe of one container, and the container as the daemon sees it now."""

    pod_uid: str
    container: str
    kind: ProbeKind
    handler: Handler
    pod: str = ""  # name and namespace: labels of the metrics
    namespace: str = ""
    container_id: str = ""
    running: bool = False
    started_at: float = 0.0
    startup_gate: bool = False  # the container has a startup probe too
    stopping: bool = False  # pod being deleted: liveness and startup stop, readiness goes on
    known: ProbeResult | None = None  # what the daemon remembers, for a prober that lost its state
    timeout: float = 1.0
    period: float = 10.0  # seconds; below 1 by annotation
    start_period: float | None = None  # until the first success
    initial_delay: int = 0
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.pod_uid, self.container, self.kind.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """*targets* are all that the pods *uids* have, whose results are then reported; with `sync` every pod but those
    in *alive* is forgotten."""

    sync: bool = False
    alive: tuple[str, ...] = ()  # pods that exist, known to have targets yet or not
    uids: tuple[str, ...] = ()
    targets: tuple[Target, ...] = ()
    ask: str = ""  # "metrics", or "probes UID"; answered in order


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The state of one probe, or (with *attempt*) one attempt that did not succeed."""

    pod_uid: str
    container: str
    kind: ProbeKind
    container_id: str
    result: ProbeResult
    at: float = 0.0  # seconds since the epoch
    run: int = 0  # equal outcomes in a row
    attempt: Outcome | None = None
    output: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One line from the prober."""

    reports: tuple[Report, ...] = ()
    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One probe as it is now, for a reader: the answer to `ask`."""

    container: str
    kind: ProbeKind
    container_id: str
    result: ProbeResult
    what: str  # "http-get http://10.0.0.1:80/healthz"
    period: float
    threshold: int  # that the present run is counted against
    run: int = 0
    last: ProbeResult | None = None  # outcome of the last attempt
    output: str = ""
    attempted_at: float = 0.0  # seconds since the epoch, 0: never
    waits_for: str = ""  # why it does not probe now, "" when it does


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What one handler run told."""

    outcome: Outcome
    output: str = ""
