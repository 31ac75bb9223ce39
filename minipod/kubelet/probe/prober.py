"""The prober process: a listening socket, a worker per probe, news to whoever is connected.

Forked by the supervisor, which imports this module and calls `main(instance)` after the fork. One daemon at a time: a new
connection replaces the old. Without a daemon the workers go on counting; attempts that failed meanwhile are kept (the newest
1,000) and told to the next one, which also hears the results of every pod that it names. Invariant: a worker lives exactly as
long as its target is wanted. One thread, one epoll descriptor for all probes' sockets, one heap for all due times.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from minipod import log
from minipod.aio.tasks import Background
from minipod.kubelet.probe import handlers, metrics
from minipod.kubelet.probe.flight import Engine
from minipod.kubelet.probe.targets import Command, News, Report, Target, socket_path
from minipod.kubelet.probe.timers import Timers
from minipod.kubelet.probe.worker import Landed, Launch, Worker
from minipod.kubelet.rules.probe import ProbeKind, ProbeResult
from minipod.spec import codec

if TYPE_CHECKING:
    from collections.abc import Callable

    from minipod.aio.timers import Clock
    from minipod.kubelet.probe.exec import ExecRunner
    from minipod.spec.instance import Instance

Key = tuple[str, str, str]

_LINE_LIMIT = 16 << 20  # bytes of one JSON line: 1,000 pods in one sync
_BEHIND = 32 << 20  # bytes that a daemon may leave unread: it is stopped, or hangs
_KEPT = 1000  # reports that wait for a daemon
_NICE = -10  # due times come before what the node does in bulk: builds of pods, logs, lists


class Prober:
    """The workers, and the one connection that hears of them. Made on a running loop."""

    def __init__(self, runner: ExecRunner, *, clock: Clock) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self.clock = clock
        self.started_at = clock()
        self.timers = Timers(self._loop)
        self.lateness = metrics.Histogram(metrics.LATENESS)
        self._engine = Engine(self.timers)
        self._runner = runner
        self._pods: dict[str, dict[Key, Worker]] = {}
        self._background = Background()
        self._writer: asyncio.StreamWriter | None = None
        self._unsent: deque[Report] = deque()
        self._flushing = False

    async def serve(self, path: str) -> None:
        """Listen until cancelled."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        server = await asyncio.start_unix_server(self._connected, path, limit=_LINE_LIMIT)
        os.chmod(path, 0o600)
        try:
            await server.serve_forever()
        finally:
            if self._writer is not None:
                self._writer.close()
            await self.close()

    async def close(self) -> None:
        """End everything under way."""
        for uid in list(self._pods):
            self._set(uid, {})
        await self._background.close()
        self._engine.close()
        self.timers.close()

    def handle(self, command: Command) -> None:
        """Make the set of workers what the daemon wants; answer what it asks."""
        if command.sync:
            for uid in self._pods.keys() - set(command.alive):
                self._set(uid, {})
        wanted: dict[str, dict[Key, Target]] = {uid: {} for uid in command.uids}
        for target in command.targets:
            wanted[target.pod_uid][target.key] = target
        for uid, targets in wanted.items():
            self._set(uid, targets)
        if command.ask:
            self._answer(command.ask)

    def _set(self, uid: str, targets: dict[Key, Target]) -> None:
        workers = self._pods.setdefault(uid, {})
        for key in workers.keys() - targets.keys():
            workers.pop(key).stop()
        for key, target in targets.items():
            if (worker := workers.get(key)) is not None:
                worker.update(target)
            else:
                workers[key] = Worker(target, self)
        for worker in workers.values():
            worker.arm()  # when all are there: one may open another's gate
            self.report(worker.report())
        if not workers:
            del self._pods[uid]

    # -- what a worker needs (worker.Surroundings)

    def prepare(self, target: Target) -> Launch:
        """How to begin an attempt."""
        prepared = handlers.prepare(target.handler, target.timeout)
        if prepared is None:
            return partial(self._launch_task, target)
        return partial(self._launch_flight, prepared, target.timeout)

    def is_started(self, target: Target) -> bool:
        """Whether the startup gate of its container is open."""
        if not target.startup_gate and target.kind is not ProbeKind.STARTUP:
            return True
        worker = self._worker(target.pod_uid, target.container, ProbeKind.STARTUP)
        if worker is None or worker.state.container_id != target.container_id:
            return False
        return worker.state.result is ProbeResult.SUCCESS

    def report(self, report: Report) -> None:
        """Tell the daemon, with what else happens in this turn of the loop; keep failures for the next one."""
        if self._writer is not None or report.attempt is not None:
            self._unsent.append(report)
            if self._writer is None and len(self._unsent) > _KEPT:
                self._unsent.popleft()
            self._flush_soon()
        if report.kind is ProbeKind.STARTUP and report.result is ProbeResult.SUCCESS:
            for kind in (ProbeKind.READINESS, ProbeKind.LIVENESS):
                worker = self._worker(report.pod_uid, report.container, kind)
                if worker is not None:
                    worker.trigger()

    # -- inside

    def _worker(self, uid: str, container: str, kind: ProbeKind) -> Worker | None:
        return self._pods.get(uid, {}).get((uid, container, kind.value))

    def _launch_flight(
        self, prepared: handlers.Prepared, time_limit: float, now: float, landed: Landed
    ) -> Callable[[], None] | None:
        flight = self._engine.start(prepared(), now + time_limit, landed)
        return None if flight is None else partial(self._engine.cancel, flight)

    def _launch_task(self, target: Target, _now: float, landed: Landed) -> None:
        """It ends by itself, at its time limit at last; nobody listens to one that was given up."""
        self._background.spawn(self._ask(target, landed), name="probe " + "/".join(target.key))

    async def _ask(self, target: Target, landed: Landed) -> None:
        try:
            found = await handlers.ask(target, self._runner)
        except Exception as error:  # the boundary of one attempt; its worker logs it
            landed(error)
        else:
            landed(found)

    def _answer(self, question: str) -> None:
        what, _, uid = question.partition(" ")
        if what == "metrics":
            workers = (w for pod in self._pods.values() for w in pod.values())
            counted = ((w.target, w.counters) for w in workers)
            answer = metrics.text(counted, self.lateness)
        else:
            looks = [w.look() for _, w in sorted(self._pods.get(uid, {}).items())]
            answer = codec.dumps(looks).decode()
        self._write(News(answer=answer))

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._writer is None or not self._unsent:
            return
        reports = tuple(self._unsent)
        self._unsent.clear()
        self._write(News(reports=reports))

    def _write(self, news: object) -> None:
        if self._writer is None or self._writer.is_closing():
            return
        if self._writer.transport.get_write_buffer_size() > _BEHIND:
            self._writer.transport.abort()  # it hears the results of all when it has connected anew
            self._writer = None
            return
        self._writer.write(codec.dumps(news) + b"\n")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = writer
        self._flush_soon()
        try:
            while line := await reader.readline():
                self.handle(codec.loads(Command, line))
                await asyncio.sleep(0)  # probes come between the lines of a long sync
        except OSError:
            return  # the daemon is gone; the next one will connect
        finally:
            if self._writer is writer:
                self._writer = None
            writer.close()


def prefer() -> None:
    """Let this process run before those of usual priority, where we may."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)


def cancel_at_sigterm(task: asyncio.Future[None]) -> None:
    """What `add_signal_handler` does, without `inspect` (`minipod.late_inspect`)."""
    loop = asyncio.get_running_loop()
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def stop() -> None:
        loop.remove_reader(reader)
        task.cancel()

    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writer)
    loop.add_reader(reader, stop)


def main(instance: Instance, runner: ExecRunner) -> None:
    """Run the prober of *instance* until SIGTERM. *runner* is the way to the supervisor."""

    log.setup(process="prober")
    prefer()

    async def run() -> None:
        prober = Prober(runner, clock=time.time)
        task = asyncio.ensure_future(prober.serve(socket_path(instance.run_dir)))
        cancel_at_sigterm(task)
        gc.freeze()  # modules are not garbage: a full collection would only pause probes
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
