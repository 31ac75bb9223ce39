"""Probe thresholds as a state machine without time: worker.doProbe (K8S
pkg/kubelet/prober/worker.go).

    observe(container)   a new container id resets the state; not running means Failure
    count(outcome)       a run of equal outcomes at its threshold flips the result
    on_hold              after a liveness or startup failure, until a new container id

An *error* of the prober itself is no outcome: it changes nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace


class ProbeKind(enum.Enum):
    READINESS = "readiness"
    LIVENESS = "liveness"
    STARTUP = "startup"


class ProbeResult(enum.Enum):
    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


class Outcome(enum.Enum):
    """What one attempt told. A warning counts as success (a redirect to another host)."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """How many equal outcomes in a row flip the result."""

    success: int = 1
    failure: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeState:
    """What a worker remembers about one probe of one container."""

    container_id: str = ""
    result: ProbeResult
    last: ProbeResult | None = None  # outcome of the last attempt
    run: int = 0  # how many equal outcomes in a row
    on_hold: bool = False


_INITIAL = {
    ProbeKind.READINESS: ProbeResult.FAILURE,
    ProbeKind.LIVENESS: ProbeResult.SUCCESS,
    ProbeKind.STARTUP: ProbeResult.UNKNOWN,
}


def initial_result(kind: ProbeKind) -> ProbeResult:
    """Not ready, alive, not known to have started: until a probe says otherwise."""
    return _INITIAL[kind]


def initial_state(kind: ProbeKind, container_id: str = "") -> ProbeState:
    return ProbeState(container_id=container_id, result=initial_result(kind))


def observe(kind: ProbeKind, state: ProbeState, *, container_id: str, running: bool) -> ProbeState:
    """Take notice of the container as it is now."""
    if container_id != state.container_id:
        state = initial_state(kind, container_id)
    if not running and state.result is not ProbeResult.FAILURE:
        state = replace(state, result=ProbeResult.FAILURE)
    return state


def count(
    kind: ProbeKind, thresholds: Thresholds, state: ProbeState, outcome: Outcome
) -> ProbeState:
    """Count one attempt."""
    if outcome is Outcome.ERROR or state.on_hold:
        return state
    good = outcome is not Outcome.FAILURE
    attempt = ProbeResult.SUCCESS if good else ProbeResult.FAILURE
    run = state.run + 1 if attempt is state.last else 1
    reached = run >= (thresholds.success if good else thresholds.failure)
    # The container will be killed; probing it until then could only confuse (#21751).
    hold = reached and not good and kind is not ProbeKind.READINESS
    return ProbeState(
        container_id=state.container_id,
        result=attempt if reached else state.result,
        last=attempt,
        run=0 if hold else run,
        on_hold=hold,
    )


def due(started_at: float, initial_delay: int, now: float) -> float:
    """When the first attempt may run: whole seconds count (worker.go: int(now - startedAt))."""
    return max(now, started_at + initial_delay)


def may_probe(kind: ProbeKind, *, started: bool) -> bool:
    """The startup gate: until the container has started only the startup probe runs, then never
    again."""
    return started is not (kind is ProbeKind.STARTUP)
