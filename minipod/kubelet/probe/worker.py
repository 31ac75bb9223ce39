"""One probe of one container: waits for its due time, asks, counts, tells (K8S prober/worker.go).

    update(target) --> wake --> due? --> attempt (3 tries on prober errors) --> rules.count -->
    report

The first attempt comes when the initial delay is over, then one every period. There is no start
jitter except for containers older than the prober (a herd after a restart is what jitter is for).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from minipod.kubelet.probe.targets import Attempt, Report, Target
from minipod.kubelet.rules import probe as rules
from minipod.kubelet.rules.probe import Outcome, ProbeKind, ProbeResult, ProbeState

if TYPE_CHECKING:
    from minipod.aio.timers import Clock

logger = logging.getLogger(__name__)

_TRIES = 3  # only errors of the prober itself are tried again (prober.go: maxProbeRetries)
_SHOWN = 4096  # characters of output that travel with a report

RunProbe = Callable[[Target], Awaitable[Attempt]]


class Worker:
    """The actor of one probe. *started* answers for the startup gate of its container."""

    def __init__(
        self,
        target: Target,
        run_probe: RunProbe,
        report: Callable[[Report], None],
        started: Callable[[Target], bool],
        *,
        clock: Clock,
        prober_started: float,
    ) -> None:
        self.target = target
        self.state = self._first_state(target)
        self._run_probe = run_probe
        self._report = report
        self._started = started
        self._clock = clock
        self._prober_started = prober_started
        self._next = self._first_due()
        self._wake = asyncio.Event()

    def update(self, target: Target) -> None:
        """The container changed, or the gate opened: look again."""
        before, fresh = self.state, target.container_id != self.target.container_id
        self.target = target
        self.state = rules.observe(
            target.kind,
            self.state,
            container_id=target.container_id,
            running=target.running or not target.container_id,
        )
        if fresh:
            self._next = self._first_due()
        if self.state.result is not before.result or fresh:
            self._report(self.report())
        self._wake.set()

    def trigger(self) -> None:
        """Probe now: the startup probe has just succeeded."""
        self._next = rules.due(self.target.started_at, self.target.initial_delay, self._clock())
        self._wake.set()

    def report(self) -> Report:
        target = self.target
        return Report(
            pod_uid=target.pod_uid,
            container=target.container,
            kind=target.kind,
            container_id=self.state.container_id,
            result=self.state.result,
        )

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            self._wake.clear()
            if not self._may_probe():
                await self._wake.wait()
                continue
            delay = self._next - self._clock()
            if delay > 0:
                await self._sleep(delay)
                continue
            self._next = self._clock() + self.target.period
            await self._attempt()

    def _may_probe(self) -> bool:
        target = self.target
        if not target.running or self.state.on_hold:
            return False
        if target.stopping and target.kind is not ProbeKind.READINESS:
            return False
        return rules.may_probe(target.kind, started=self._started(target))

    async def _sleep(self, delay: float) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _attempt(self) -> None:
        target = self.target
        attempt = await self._ask(target)
        if target.container_id != self.target.container_id or not self.target.running:
            return  # it belongs to an instance that is gone
        before = self.state
        self.state = rules.count(target.kind, target.thresholds, before, attempt.outcome)
        if attempt.outcome is not Outcome.SUCCESS:
            self._report(self._failed(attempt))
        elif self.state.result is not before.result:
            self._report(self.report())

    async def _ask(self, target: Target) -> Attempt:
        attempt = Attempt(outcome=Outcome.ERROR)
        for _ in range(_TRIES):
            try:
                attempt = await self._run_probe(target)
            except Exception as error:  # the task boundary of one attempt
                logger.exception("probe %s", "/".join(target.key))
                attempt = Attempt(outcome=Outcome.ERROR, output=str(error))
            if attempt.outcome is not Outcome.ERROR:
                break
        return attempt

    def _failed(self, attempt: Attempt) -> Report:
        report = self.report()
        return Report(
            pod_uid=report.pod_uid,
            container=report.container,
            kind=report.kind,
            container_id=report.container_id,
            result=report.result,
            attempt=attempt.outcome,
            output=attempt.output[:_SHOWN],
        )

    def _first_due(self) -> float:
        target, now = self.target, self._clock()
        due = rules.due(target.started_at, target.initial_delay, now)
        if target.running and target.started_at < self._prober_started:
            due = max(due, now + random.uniform(0, min(target.period, 1.0)))  # noqa: S311
        return due

    @staticmethod
    def _first_state(target: Target) -> ProbeState:
        state = rules.initial_state(target.kind, target.container_id)
        if target.known is None or target.known is ProbeResult.UNKNOWN:
            return state
        return ProbeState(container_id=target.container_id, result=target.known)
