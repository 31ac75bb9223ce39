"""One probe of one container: waits for its due time, asks, counts, tells (K8S pkg/kubelet/prober/worker.go).

    update(target) --> arm --> due --> launch (3 tries on the prober's own errors) --> rules.count --> report --> arm

An actor without a task: everything is a callback of the timers or of the launched attempt. Attempts stand on a *grid*: the
first comes when the initial delay is over, the others a whole number of periods later, however late one was or how long it took;
of the points that an attempt overran, one is caught up (Go's ticker). A start period puts additional attempts between the points
until the first success; their failures do not count, or a fast start would use up the failure threshold. The original's
random wait at the start is kept for containers older than a prober that is younger than a period: the herd after a restart.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from minipod.kubelet.probe.handlers import describe
from minipod.kubelet.probe.metrics import ProbeCounters
from minipod.kubelet.probe.targets import Attempt, Look, Report, Target
from minipod.kubelet.rules import probe as rules
from minipod.kubelet.rules.probe import Outcome, ProbeKind, ProbeResult, ProbeState

if TYPE_CHECKING:
    from minipod.kubelet.probe.metrics import Histogram
    from minipod.kubelet.probe.timers import Timer, Timers

logger = logging.getLogger(__name__)

_TRIES = 3  # only errors of the prober itself are tried again (prober.go: maxProbeRetries)
_SHOWN = 4096  # characters of output that travel with a report

Landed = Callable[["Attempt | Exception"], None]
# Begins one attempt at this time, returns how to give it up, if there is a way; may call `Landed` before it returns.
Launch = Callable[[float, Landed], Callable[[], None] | None]


class Surroundings(Protocol):
    """What a worker needs of its prober."""

    timers: Timers
    lateness: Histogram
    started_at: float  # of the prober, seconds since the epoch

    def now(self) -> float:
        """The loop's time."""

    def clock(self) -> float:
        """Seconds since the epoch."""

    def prepare(self, target: Target) -> Launch:
        """How to begin an attempt."""

    def is_started(self, target: Target) -> bool:
        """Whether the startup gate of its container is open."""

    def report(self, report: Report) -> None:
        """Tell the daemon."""


class Worker:
    """The actor of one probe."""

    def __init__(self, target: Target, prober: Surroundings) -> None:
        self.target = target
        self.state = self._first_state(target)
        self.counters = ProbeCounters()
        self._prober = prober
        self._begin = prober.prepare(target)
        self._grid = self._first_due()
        self._additional = float("inf")  # next attempt off the grid
        self._timer: Timer | None = None
        self._flying = False
        self._give_up: Callable[[], None] | None = None
        self._flight = 0  # number of the attempt under way; answers to older ones are not heard
        self._on_grid = True
        self._tries = 0
        self._began = 0.0
        self._last = Attempt(outcome=Outcome.SUCCESS)
        self._attempted_at = 0.0  # seconds since the epoch
        self._succeeded = self.state.result is ProbeResult.SUCCESS

    def update(self, target: Target) -> None:
        """The container changed; `arm` follows."""
        old, self.target = self.target, target
        self._begin = self._prober.prepare(target)
        fresh = target.container_id != old.container_id
        self.state = rules.observe(
            target.kind,
            self.state,
            container_id=target.container_id,
            running=target.running or not target.container_id,
        )
        if fresh:
            self._abandon()
            self._succeeded = False
            self._grid = self._first_due()
            self._additional = float("inf")
        elif (target.period, target.initial_delay) != (old.period, old.initial_delay):
            self._grid = max(self._first_due(), min(self._grid, self._prober.now() + target.period))

    def trigger(self) -> None:
        """Probe now: the startup probe has just succeeded."""
        self._grid = self._due_by_delay()
        self.arm()

    def stop(self) -> None:
        """Do nothing any more."""
        self._abandon()
        self._cancel_timer()

    def arm(self) -> None:
        """Set the timer for the next attempt, if there is to be one."""
        self._cancel_timer()
        if not self._flying and not self._obstacle():
            self._set_timer(self._prober.now())

    def _set_timer(self, now: float) -> None:
        due = min(self._grid, self._additional) if self._starting() else self._grid
        self._timer = self._prober.timers.at(max(due, now), self._due)

    def report(self) -> Report:
        """The state now."""
        target = self.target
        return Report(
            pod_uid=target.pod_uid,
            container=target.container,
            kind=target.kind,
            container_id=self.state.container_id,
            result=self.state.result,
            at=self._prober.clock(),
            run=self.state.run,
        )

    def look(self) -> Look:
        """Everything about it, for a reader."""
        target, state = self.target, self.state
        thresholds = target.thresholds
        failing = state.last is ProbeResult.FAILURE
        return Look(
            container=target.container,
            kind=target.kind,
            container_id=state.container_id,
            result=state.result,
            what=describe(target.handler),
            period=target.period,
            threshold=thresholds.failure if failing else thresholds.success,
            run=state.run,
            last=state.last,
            output=self._last.output[:_SHOWN],
            attempted_at=self._attempted_at,
            waits_for=self._obstacle(),
        )

    # -- when

    def _obstacle(self) -> str:
        """Why it must not probe now; "" when it may."""
        target = self.target
        if not target.running:
            return "its container to run"
        if self.state.on_hold:
            return "a new container, this one has failed"
        if target.stopping and target.kind is not ProbeKind.READINESS:
            return "nothing: the pod is being deleted"
        if not rules.may_probe(target.kind, started=self._prober.is_started(target)):
            return "nothing: started" if target.kind is ProbeKind.STARTUP else "the startup probe"
        return ""

    def _starting(self) -> bool:
        return self.target.start_period is not None and not self._succeeded

    def _due_by_delay(self) -> float:
        clock = self._prober.clock()
        due = rules.due(self.target.started_at, self.target.initial_delay, clock)
        return self._prober.now() + (due - clock)

    def _first_due(self) -> float:
        due, target, prober = self._due_by_delay(), self.target, self._prober
        younger = prober.clock() - prober.started_at < target.period
        if younger and target.running and target.started_at < prober.started_at:
            due = max(due, prober.now() + random.uniform(0, target.period))  # noqa: S311
        return due

    def _due(self) -> None:
        timer, now = self._timer, self._prober.now()
        assert timer is not None
        self._timer = None
        self._prober.lateness.observe(now - timer.due)
        target = self.target
        self._on_grid = now >= self._grid
        if self._on_grid:
            missed = int((now - self._grid) / target.period) if target.period else 0
            self._grid += (missed + 1) * target.period
        if target.start_period is not None:
            self._additional = timer.due + target.start_period
        self._tries = _TRIES
        self._launch(now)

    # -- one attempt

    def _launch(self, now: float) -> None:
        self._flight += 1
        flight = self._flight
        self._began = now
        self._flying = True
        give_up = self._begin(now, partial(self._landed, flight))
        if self._flying and flight == self._flight:
            self._give_up = give_up

    def _abandon(self) -> None:
        self._flight += 1
        self._flying = False
        if self._give_up is not None:
            self._give_up()
            self._give_up = None

    def _landed(self, flight: int, found: Attempt | Exception) -> None:
        if flight != self._flight:
            return  # it belongs to an instance that is gone
        self._give_up = None
        if isinstance(found, Exception):
            logger.error("probe %s", "/".join(self.target.key), exc_info=found)
            found = Attempt(outcome=Outcome.ERROR, output=str(found))
        self._tries -= 1
        if found.outcome is Outcome.ERROR and self._tries:
            self._launch(self._prober.now())
            return
        self._flying = False
        result, now = self.state.result, self._prober.now()
        if not self._obstacle():  # the pod may be going since
            self._count(found, now)
            if self.state.result is result and not self.state.on_hold:  # nothing is in the way now
                self._set_timer(now)
                return
        self.arm()

    def _count(self, attempt: Attempt, now: float) -> None:
        target, before, outcome = self.target, self.state, attempt.outcome
        self.counters.count(outcome, now - self._began)
        self._last, self._attempted_at = attempt, self._prober.clock()
        if outcome is Outcome.FAILURE and not self._on_grid:
            return
        self.state = rules.count(target.kind, target.thresholds, before, outcome)
        self._succeeded = self._succeeded or self.state.result is ProbeResult.SUCCESS
        if outcome is not Outcome.SUCCESS:
            self._prober.report(self._unsuccessful(attempt))
        elif self.state.result is not before.result:
            self._prober.report(self.report())

    def _unsuccessful(self, attempt: Attempt) -> Report:
        report = self.report()
        return Report(
            pod_uid=report.pod_uid,
            container=report.container,
            kind=report.kind,
            container_id=report.container_id,
            result=report.result,
            at=report.at,
            run=report.run,
            attempt=attempt.outcome,
            output=attempt.output[:_SHOWN],
        )

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._prober.timers.cancel(self._timer)
            self._timer = None

    @staticmethod
    def _first_state(target: Target) -> ProbeState:
        state = rules.initial_state(target.kind, target.container_id)
        if target.known is None or target.known is ProbeResult.UNKNOWN:
            return state
        return ProbeState(container_id=target.container_id, result=target.known)
