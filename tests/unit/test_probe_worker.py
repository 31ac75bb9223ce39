"""When a probe runs and what counts, in virtual time, with attempts that a list answers. Excluded: sockets, the protocol."""

import asyncio
from functools import partial

import pytest

from minipod.kubelet.probe.metrics import LATENESS, Histogram
from minipod.kubelet.probe.targets import Attempt, Handler, Report, Target
from minipod.kubelet.probe.timers import Timers
from minipod.kubelet.probe.worker import Worker
from minipod.kubelet.rules.probe import Outcome, ProbeKind, ProbeResult, Thresholds

pytestmark = pytest.mark.looptime

OUTCOMES = {"S": Outcome.SUCCESS, "F": Outcome.FAILURE, "E": Outcome.ERROR, "W": Outcome.WARNING}
EPOCH = 1_000_000.0  # the clock when the loop's time is 0


class Desk:
    """Stands for the prober: attempts take *took* seconds and end as *outcomes* say, the last one for ever."""

    def __init__(self, outcomes: str, took: float = 0.0, age: float = 1e6) -> None:
        self.loop = asyncio.get_running_loop()
        self.timers = Timers(self.loop)
        self.lateness = Histogram(LATENESS)
        self.started_at = EPOCH - age
        self.started = True
        self.began: list[float] = []
        self.reports: list[Report] = []
        self._outcomes = list(outcomes)
        self._took = took

    def now(self) -> float:
        return self.loop.time()

    def clock(self) -> float:
        return EPOCH + self.loop.time()

    def prepare(self, target: Target):
        return self._launch

    def _launch(self, now, landed):
        self.began.append(round(now, 6))
        letter = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        attempt = Attempt(outcome=OUTCOMES[letter], output=letter)
        if not self._took:
            landed(attempt)
            return None
        return self.loop.call_later(self._took, partial(landed, attempt)).cancel

    def is_started(self, target: Target) -> bool:
        return self.started

    def report(self, report: Report) -> None:
        self.reports.append(report)


def target(kind: ProbeKind = ProbeKind.READINESS, **fields) -> Target:
    return Target(
        **{
            "pod_uid": "u", "container": "app", "kind": kind, "handler": Handler(),
            "container_id": "c1", "running": True, "started_at": EPOCH, "period": 10.0, **fields,
        }
    )  # fmt: skip


async def run(desk: Desk, seconds: float, **fields) -> Worker:
    worker = Worker(target(**fields), desk)
    worker.arm()
    await asyncio.sleep(seconds)
    return worker


@pytest.mark.parametrize(
    ("fields", "took", "began"),
    [
        pytest.param({}, 0, [0, 10, 20], id="every-period"),
        pytest.param({"initial_delay": 7}, 0, [7, 17], id="initial-delay"),
        pytest.param({}, 4.0, [0, 10, 20], id="slow-does-not-drift"),
        pytest.param({}, 12.0, [0, 12, 24], id="overrun-is-caught-up-once"),
        pytest.param({"period": 0.25}, 0.1, [n / 4 for n in range(100)], id="below-a-second"),
        pytest.param({"running": False}, 0, [], id="not-running"),
        pytest.param({"start_period": 0.5}, 0, [0, 10, 20], id="start-period-ends-with-success"),
    ],
)
async def test_times(fields, took, began):
    desk = Desk("S", took)
    await run(desk, 24.9, **fields)
    assert desk.began == began


async def test_after_a_long_overrun_the_grid_is_found_again():
    desk = Desk("S", 12.0)
    await run(desk, 45, period=5.0)
    assert desk.began == [0, 12, 24, 36]
    desk._took = 0.0
    await asyncio.sleep(12)
    assert desk.began[4:] == [48, 50, 55]


async def test_jitter_only_for_what_is_older_than_a_young_prober(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high * 0.6)
    young = Desk("S", age=1)
    await run(young, 9, started_at=EPOCH - 100)
    assert young.began == [6]
    fresh, old = Desk("S", age=1), Desk("S", age=20)
    await run(fresh, 0.1, started_at=EPOCH)
    await run(old, 0.1, started_at=EPOCH - 100)
    assert len(fresh.began) == len(old.began) == 1


async def test_start_period_failures_do_not_use_up_the_threshold():
    desk = Desk("F")
    desk.started = False
    worker = await run(
        desk, 29.9, kind=ProbeKind.STARTUP, start_period=0.5, thresholds=Thresholds(failure=4)
    )
    assert len(desk.began) == 60
    assert worker.state.run == 3  # at 0, 10 and 20
    assert worker.state.result is ProbeResult.UNKNOWN
    assert len([r for r in desk.reports if r.attempt]) == 3
    await asyncio.sleep(0.2)
    assert worker.state.result is ProbeResult.FAILURE


async def test_start_period_finds_the_first_success_early():
    desk = Desk("FFFS")
    worker = await run(desk, 21, start_period=0.5)
    assert desk.began == [0, 0.5, 1, 1.5, 10, 20]
    assert worker.state.result is ProbeResult.SUCCESS


@pytest.mark.parametrize(
    ("outcomes", "began", "reported"),
    [
        pytest.param("EES", 3, [], id="two-errors-then-success"),
        pytest.param("EEE", 3, [Outcome.ERROR], id="three-errors-count-for-nothing"),
        pytest.param("F", 1, [Outcome.FAILURE], id="a-failure-is-not-tried-again"),
        pytest.param("W", 1, [Outcome.WARNING], id="warning"),
    ],
)
async def test_tries(outcomes, began, reported):
    desk = Desk(outcomes)
    worker = await run(desk, 1)
    assert len(desk.began) == began
    assert [r.attempt for r in desk.reports if r.attempt] == reported
    assert worker.counters.results == {
        {"EES": "successful", "EEE": "unknown", "F": "failed", "W": "successful"}[outcomes]: 1
    }


async def test_a_failed_liveness_probe_waits_for_a_new_container():
    desk = Desk("F")
    worker = await run(desk, 100, kind=ProbeKind.LIVENESS)
    assert desk.began == [0, 10, 20]
    assert worker.look().waits_for == "a new container, this one has failed"
    worker.update(target(ProbeKind.LIVENESS, container_id="c2", started_at=EPOCH + 100))
    worker.arm()
    await asyncio.sleep(1)
    assert desk.began == [0, 10, 20, 100]
    assert worker.state.result is ProbeResult.SUCCESS


@pytest.mark.parametrize("kind", list(ProbeKind))
async def test_deletion_stops_all_but_readiness(kind):
    desk = Desk("S", took=1.0)
    desk.started = kind is not ProbeKind.STARTUP
    worker = await run(desk, 0.5, kind=kind)
    worker.update(target(kind, stopping=True))
    worker.arm()
    await asyncio.sleep(20)
    assert len(desk.began) == (3 if kind is ProbeKind.READINESS else 1)


async def test_the_answer_of_a_gone_instance_is_not_heard():
    desk = Desk("FS", took=5.0)
    worker = await run(desk, 1, thresholds=Thresholds(failure=1))
    worker.update(target(container_id="c2", started_at=EPOCH + 1))
    worker.arm()
    await asyncio.sleep(5.5)
    assert desk.began == [0, 1]
    assert worker.state.result is ProbeResult.SUCCESS
    assert not [r for r in desk.reports if r.attempt]


async def test_one_heap_compacts_what_was_cancelled():
    loop = asyncio.get_running_loop()
    timers, called = Timers(loop), []
    kept = timers.at(5.0, lambda: called.append(loop.time()))
    for n in range(2000):
        timers.cancel(timers.at(100.0 + n, lambda: called.append(-1)))
    assert len(timers) < 600
    timers.at(3.0, lambda: timers.cancel(kept))
    timers.at(4.0, lambda: timers.at(4.5, lambda: called.append(loop.time())))
    await asyncio.sleep(10)
    assert called == [4.5]


async def test_a_container_that_was_known_to_have_failed_is_held_when_it_fails_again() -> None:
    """Its result does not change by that, but nobody asks it any more."""
    desk = Desk("F")
    known = {"kind": ProbeKind.LIVENESS, "known": ProbeResult.FAILURE}
    worker = await run(desk, 45, thresholds=Thresholds(failure=2), **known)
    assert desk.began == [0, 10]
    assert worker.look().waits_for.startswith("a new container")
