"""The prober process: a listening socket, a worker per probe, reports to whoever is connected.

Forked by the supervisor, which calls `main(instance)`; asyncio is imported after the fork. One
daemon at a time: a new connection replaces the old. Without a daemon the workers go on counting;
what changed is told in the answer to the next `sync`. Invariant: a worker lives exactly as long as
its target is wanted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from minipod.aio.timers import Clock
    from minipod.kubelet.probe.exec import ExecRunner
    from minipod.kubelet.probe.targets import Attempt, Command, Report, Target
    from minipod.kubelet.probe.worker import Worker
    from minipod.spec.instance import Instance

    Key = tuple[str, str, str]

_LINE_LIMIT = 16 << 20  # bytes of one JSON line: 1,000 pods in one sync


def socket_path(run_dir: str) -> str:
    """Where the prober of a node listens."""
    return f"{run_dir}/prober.sock"


class Prober:
    """The workers, and the one connection that hears of them."""

    def __init__(self, runner: ExecRunner, *, clock: Clock) -> None:
        from minipod.aio.tasks import Background

        self._runner = runner
        self._clock = clock
        self._started_at = clock()
        self._workers: dict[Key, Worker] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._background = Background()
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, path: str) -> None:
        """Listen until cancelled."""
        import asyncio
        import contextlib

        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        server = await asyncio.start_unix_server(self._connected, path, limit=_LINE_LIMIT)
        os.chmod(path, 0o600)
        try:
            await server.serve_forever()
        finally:
            if self._writer is not None:
                self._writer.close()
            await self._background.close()

    def handle(self, command: Command) -> None:
        """Make the set of workers what the daemon wants."""
        wanted = {target.key: target for target in command.targets}
        for key in [k for k in self._workers if command.sync or k[0] in command.uids]:
            if key not in wanted:
                self._drop(key)
        for key, target in wanted.items():
            if (worker := self._workers.get(key)) is not None:
                worker.update(target)
            else:
                self._add(key, target)
        if command.sync:
            for worker in self._workers.values():
                self._send(worker.report())

    def _add(self, key: Key, target: Target) -> None:
        from minipod.kubelet.probe.worker import Worker

        worker = Worker(
            target,
            self._probe,
            self._reported,
            self._is_started,
            clock=self._clock,
            prober_started=self._started_at,
        )
        self._workers[key] = worker
        self._tasks[key] = self._background.spawn(worker.run(), name="probe " + "/".join(key))

    def _drop(self, key: Key) -> None:
        del self._workers[key]
        self._tasks.pop(key).cancel()

    async def _probe(self, target: Target) -> Attempt:
        from minipod.kubelet.probe import exec as exec_probe
        from minipod.kubelet.probe import http, tcp
        from minipod.kubelet.probe.targets import Attempt
        from minipod.kubelet.rules.probe import Outcome

        handler = target.handler
        if handler.http_get is not None:
            return await http.probe(handler.http_get, target.timeout)
        if handler.tcp_socket is not None:
            return await tcp.probe(handler.tcp_socket, target.timeout)
        if handler.exec is not None:
            return await exec_probe.probe(
                handler.exec, target.container_id, self._runner, target.timeout
            )
        return Attempt(outcome=Outcome.ERROR, output="missing probe handler")

    def _is_started(self, target: Target) -> bool:
        from minipod.kubelet.rules.probe import ProbeKind, ProbeResult

        if target.kind is not ProbeKind.STARTUP and not target.startup_gate:
            return True
        worker = self._workers.get((target.pod_uid, target.container, ProbeKind.STARTUP.value))
        if worker is None or worker.state.container_id != target.container_id:
            return False
        return worker.state.result is ProbeResult.SUCCESS

    def _reported(self, report: Report) -> None:
        from minipod.kubelet.rules.probe import ProbeKind, ProbeResult

        self._send(report)
        if report.kind is ProbeKind.STARTUP and report.result is ProbeResult.SUCCESS:
            for kind in (ProbeKind.READINESS, ProbeKind.LIVENESS):
                worker = self._workers.get((report.pod_uid, report.container, kind.value))
                if worker is not None:
                    worker.trigger()

    def _send(self, report: Report) -> None:
        from minipod.spec import codec

        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(codec.dumps(report) + b"\n")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from minipod.kubelet.probe.targets import Command
        from minipod.spec import codec

        if self._writer is not None:
            self._writer.close()
        self._writer = writer
        try:
            while line := await reader.readline():
                self.handle(codec.loads(Command, line))
        except OSError:
            return  # the daemon is gone; the next one will connect
        finally:
            if self._writer is writer:
                self._writer = None
            writer.close()


def main(instance: Instance, connect_exec: Callable[[Instance], ExecRunner] | None = None) -> None:
    """Run the prober of *instance* until SIGTERM. *connect_exec* makes the way to the
    supervisor."""
    import asyncio
    import contextlib
    import signal
    import time

    from minipod import log

    log.setup(process="prober")

    async def run() -> None:
        runner = (connect_exec or _supervisor_runner)(instance)
        prober = Prober(runner, clock=time.time)
        task = asyncio.ensure_future(prober.serve(socket_path(instance.run_dir)))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())


def _supervisor_runner(instance: Instance) -> ExecRunner:
    from minipod.runtime.probe_exec import ProbeExec

    return ProbeExec(instance)
