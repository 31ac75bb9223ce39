"""The prober and its manager, joined by a real socket, and exec probes. Excluded: exec through a supervisor."""

import asyncio
import os
from contextlib import asynccontextmanager

import pytest

from minipod.errors import DeadlineExceeded, Unavailable
from minipod.kubelet.probe import exec as exec_probe
from minipod.kubelet.probe import prober as prober_module
from minipod.kubelet.probe.manager import ProbeManager
from minipod.kubelet.probe.prober import Prober
from minipod.kubelet.probe.targets import Command, Exec, Handler, News, Target
from minipod.kubelet.rules.probe import Outcome, ProbeKind, ProbeResult, Thresholds


class Runner:
    """Answers exec probes from a list."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)

    async def exec_sync(self, container_id, command, timeout):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("answer", "outcome", "output"),
    [
        pytest.param((0, b"fine"), "success", "fine", id="zero"),
        pytest.param((3, b"bad"), "failure", "bad", id="nonzero"),
        pytest.param(DeadlineExceeded("x"), "failure", 'command "cat /x" timed out', id="timeout"),
    ],
)
async def test_exec(answer, outcome, output):
    attempt = await exec_probe.probe(Exec(command=("cat", "/x")), "c", Runner(answer), 1)
    assert (attempt.outcome, attempt.output) == (Outcome(outcome), output)


def target(**fields) -> Target:
    return Target(
        **{
            "pod_uid": "u",
            "container": "app",
            "kind": ProbeKind.READINESS,
            "handler": Handler(exec=Exec(command=("x",))),
            "container_id": "c1",
            "running": True,
            "started_at": asyncio.get_running_loop().time() + 1000,
            "period": 1000.0,
            **fields,
        }
    )


class Pair:
    """A prober and a manager, joined by a real socket."""

    def __init__(self, path: str, runner: Runner) -> None:
        # The containers are as old as the prober: no jitter, no initial delay.
        self.path = path
        self.prober = Prober(runner, clock=lambda: 1e12)
        self.changed: asyncio.Queue[str] = asyncio.Queue()
        self.attempts: list[str] = []

    def manager(self) -> ProbeManager:
        return ProbeManager(
            self.path,
            on_change=lambda report: self.changed.put_nowait(report.pod_uid),
            on_attempt=lambda report: self.attempts.append(report.output),
        )


@asynccontextmanager
async def tasks(*coros):
    running = [asyncio.ensure_future(c) for c in coros]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def result(pair: Pair, manager: ProbeManager, kind: str, wanted: ProbeResult) -> None:
    async with asyncio.timeout(30):
        while getattr(manager.results("u"), kind).get("c1") is not wanted:
            await pair.changed.get()


async def test_results_reach_the_daemon_and_survive_its_restart(tmp_path):
    pair = Pair(str(tmp_path / "p.sock"), Runner((0, b"")))
    async with tasks(pair.prober.serve(pair.path)):
        first = pair.manager()
        first.set_pod("u", [target(started_at=1e12)])
        async with tasks(first.run()):
            await result(pair, first, "readiness", ProbeResult.SUCCESS)
        second = pair.manager()
        second.set_pod("u", [target(started_at=1e12)])
        async with tasks(second.run()):
            await result(pair, second, "readiness", ProbeResult.SUCCESS)


async def test_liveness_fails_at_its_threshold_and_is_then_on_hold(tmp_path):
    pair = Pair(str(tmp_path / "p.sock"), Runner((1, b"sick")))
    manager = pair.manager()
    liveness = target(
        kind=ProbeKind.LIVENESS, started_at=1e12, period=0.0, thresholds=Thresholds(failure=3)
    )
    manager.set_pod("u", [liveness])
    async with tasks(pair.prober.serve(pair.path), manager.run()):
        await result(pair, manager, "liveness", ProbeResult.FAILURE)
        assert pair.attempts == ["sick"] * 3


async def test_readiness_waits_for_the_startup_probe_and_comes_right_after_it(tmp_path):
    pair = Pair(str(tmp_path / "p.sock"), Runner((1, b""), (1, b""), (0, b"")))
    manager = pair.manager()
    startup = target(
        kind=ProbeKind.STARTUP, started_at=1e12, period=0.0, thresholds=Thresholds(failure=9)
    )
    manager.set_pod("u", [startup, target(started_at=1e12, startup_gate=True)])
    async with tasks(pair.prober.serve(pair.path), manager.run()):
        await result(pair, manager, "startup", ProbeResult.SUCCESS)
        await result(pair, manager, "readiness", ProbeResult.SUCCESS)


async def test_a_prober_that_lost_its_state_starts_from_what_the_daemon_knows(tmp_path):
    path = str(tmp_path / "p.sock")
    pair = Pair(path, Runner((0, b"")))
    manager = pair.manager()
    manager.set_pod("u", [target(started_at=1e12)])
    async with tasks(manager.run()):
        async with tasks(pair.prober.serve(path)):
            await result(pair, manager, "readiness", ProbeResult.SUCCESS)
        fresh = Pair(path, Runner((1, b"")))
        async with tasks(fresh.prober.serve(path)):
            async with asyncio.timeout(30):
                while not fresh.prober._pods:  # noqa: ASYNC110 - a turn of the loop
                    await asyncio.sleep(0)
            assert manager.results("u").readiness["c1"] is ProbeResult.SUCCESS


async def test_what_failed_without_a_daemon_is_told_to_the_next_one(tmp_path):
    """The new daemon knows the pod's name only; the prober keeps its targets, counts on and tells what it missed."""
    pair = Pair(str(tmp_path / "p.sock"), Runner((1, b"sick")))
    async with tasks(pair.prober.serve(pair.path)):
        first = pair.manager()
        liveness = target(
            kind=ProbeKind.LIVENESS, started_at=1e12, period=0.05, thresholds=Thresholds(failure=6)
        )
        first.set_pod("u", [liveness])
        async with tasks(first.run()), asyncio.timeout(30):
            while not pair.attempts:  # noqa: ASYNC110 - a turn of the loop
                await asyncio.sleep(0)
        told = len(pair.attempts)
        (worker,) = pair.prober._pods["u"].values()
        async with asyncio.timeout(30):
            while not worker.state.on_hold:  # noqa: ASYNC110 - a turn of the loop
                await asyncio.sleep(0.01)
        assert len(pair.attempts) == told
        second = pair.manager()
        second.expect("u")
        async with tasks(second.run()):
            await result(pair, second, "liveness", ProbeResult.FAILURE)
            (look,) = await second.look("u")
            assert (look.what, look.waits_for) == (
                "exec [x]",
                "a new container, this one has failed",
            )
            assert 'result="failed"} 6' in await second.metrics()
        assert len(pair.attempts) == 6


async def test_a_pod_that_is_no_more_is_forgotten_at_the_next_sync(tmp_path):
    pair = Pair(str(tmp_path / "p.sock"), Runner((0, b"")))
    pair.prober.handle(Command(uids=("u", "v"), targets=(target(), target(pod_uid="v"))))
    pair.prober.handle(Command(sync=True, alive=("v",)))
    assert list(pair.prober._pods) == ["v"]
    pair.prober.handle(Command(uids=("v",)))
    assert not pair.prober._pods
    await pair.prober.close()


async def test_a_question_fails_when_the_prober_is_away(tmp_path):
    with pytest.raises(Unavailable, match="started again"):
        await Pair(str(tmp_path / "p.sock"), Runner((0, b""))).manager().metrics()


async def test_a_daemon_that_does_not_read_is_cut_off(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A stopped one: what it is told must not pile up in the prober, which probes on."""
    monkeypatch.setattr(prober_module, "_BEHIND", 1 << 20)
    prober = Prober(Runner(), clock=lambda: 1e12)
    async with tasks(prober.serve(f"{tmp_path}/prober.sock")):
        async with asyncio.timeout(10):
            while not os.path.exists(f"{tmp_path}/prober.sock"):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/prober.sock", limit=1024)
        async with asyncio.timeout(10):
            while prober._writer is None:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        for _ in range(100):
            prober._write(News(answer="x" * 100_000))
        assert prober._writer is None
        while await reader.read(1 << 20):
            pass
        writer.close()
