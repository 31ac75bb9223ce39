"""One more process in a running container: with pipes, with a pty, or run to its end.

The end of an exec is its process' exit, then what is buffered; not the end of its pipes, which a child it left behind may
hold open for ever. What it may do comes from the container's bundle, never from the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
import uuid
from dataclasses import dataclass, field, replace
from functools import lru_cache

from minipod import errors
from minipod.runtime import bundle as bundles
from minipod.runtime.service import ContainerState, ExecResult, ExecSession
from minipod.runtime.state import Container
from minipod.runtime.supervisor_client import SupervisorClient
from minipod.spec.bundle import Bundle, ExecBundle, Process

CHUNK = 64 << 10


@dataclass(slots=True)
class Running:
    """One exec under way; *code* is set before *ended*."""

    id: str
    pid: int = 0
    master: int = -1
    code: int = -1
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Execs:
    """The exec verbs."""

    def __init__(self, supervisor: SupervisorClient, run_dir: str) -> None:
        self._supervisor = supervisor
        self._run_dir = run_dir
        self._running: dict[str, Running] = {}

    def ended(self, session: str, code: int) -> None:
        """The supervisor saw its end."""
        if (running := self._running.get(session)) is not None:
            running.code = code
            running.ended.set()

    def lost(self) -> None:
        """The supervisor is gone, and with it what it would have told."""
        for running in self._running.values():
            running.code = 137
            running.ended.set()

    async def sync(
        self, container: Container, command: tuple[str, ...], timeout: float, limit: int
    ) -> ExecResult:
        """Run to the end. DeadlineExceeded after *timeout* seconds (0: none), the session killed."""
        session = await self.start(container, command, tty=False, stdin=False)
        outputs = (Collector(session.stdout_fd, limit), Collector(session.stderr_fd, limit))
        try:
            async with asyncio.timeout(timeout or None):
                code = await self.wait(session.id)
        except TimeoutError:
            await self.kill(session.id, 9)
            await self.wait(session.id)
            raise errors.DeadlineExceeded(
                f"command {' '.join(command)!r} timed out after {timeout:g} s"
            ) from None
        except asyncio.CancelledError:
            # Nobody waits for it any more (a hook of a pod that is to end at once): it must not go on behind our back.
            self._running.pop(session.id, None)
            with contextlib.suppress(errors.Unavailable):
                await asyncio.shield(self.kill(session.id, 9))
            raise
        finally:
            for output in outputs:
                output.finish()
        return ExecResult(
            stdout=bytes(outputs[0].data), stderr=bytes(outputs[1].data), exit_code=code
        )

    async def start(
        self, container: Container, command: tuple[str, ...], *, tty: bool, stdin: bool
    ) -> ExecSession:
        """Start it; the returned fds are the caller's."""
        if container.state is not ContainerState.RUNNING:
            raise errors.FailedPrecondition(
                f"container {container.record.spec.name} is {container.state.value.lower()}, not running"
            )
        running = Running(uuid.uuid4().hex)
        made = _bundle_of(f"{self._run_dir}/containers/{container.record.id}")
        bundle = ExecBundle(
            id=running.id,
            container_id=container.record.id,
            process=_process(made.process, command, tty=tty),
        )
        self._running[running.id] = running
        try:
            if tty:
                return await self._with_console(running, bundle)
            first = 0 if made.userns is None else made.userns.first
            owner = (first + made.process.uid, first + made.process.gid)
            return await self._with_pipes(running, bundle, owner, stdin=stdin)
        except BaseException:
            del self._running[running.id]
            raise

    async def _with_console(self, running: Running, bundle: ExecBundle) -> ExecSession:
        answer, fds = await self._supervisor.request("exec", id=bundle.id, bundle=bundle)
        running.pid, running.master = answer["pid"], os.dup(fds[0])
        os.set_blocking(fds[0], False)
        return ExecSession(
            id=running.id, pid=running.pid, stdin_fd=os.dup(fds[0]), stdout_fd=fds[0], stderr_fd=-1
        )

    async def _with_pipes(
        self, running: Running, bundle: ExecBundle, owner: tuple[int, int], *, stdin: bool
    ) -> ExecSession:
        ours, theirs = [-1, -1, -1], [-1, -1, -1]
        if stdin:
            theirs[0], ours[0] = os.pipe2(os.O_CLOEXEC)
        else:
            theirs[0] = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        for n in (1, 2):
            ours[n], theirs[n] = os.pipe2(os.O_CLOEXEC)
            os.fchown(theirs[n], *owner)
        try:
            answer, _ = await self._supervisor.request(
                "exec", id=bundle.id, bundle=bundle, fds=tuple(theirs)
            )
        except BaseException:
            for fd in ours:
                if fd >= 0:
                    os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        for fd in ours:
            if fd >= 0:
                os.set_blocking(fd, False)
        running.pid = answer["pid"]
        return ExecSession(
            id=running.id, pid=running.pid, stdin_fd=ours[0], stdout_fd=ours[1], stderr_fd=ours[2]
        )

    async def wait(self, session: str) -> int:
        """Wait for its exit code, and forget it."""
        running = self._known(session)
        await running.ended.wait()
        self._running.pop(session, None)
        if running.master >= 0:
            os.close(running.master)
            running.master = -1
        return running.code

    async def resize(self, session: str, rows: int, columns: int) -> None:
        """Set the pty's window size; its foreground processes get SIGWINCH."""
        running = self._known(session)
        if running.master >= 0:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(running.master, termios.TIOCSWINSZ, size)

    async def kill(self, session: str, number: int) -> None:
        """Signal the whole session. Nothing happens when its first process has ended."""
        await self._supervisor.request("signal_exec", id=session, signal=number)

    def _known(self, session: str) -> Running:
        try:
            return self._running[session]
        except KeyError:
            raise errors.NotFound(f"no exec {session}") from None


@lru_cache(maxsize=256)
def _bundle_of(directory: str) -> Bundle:
    """What a container was made with; never changes, and exec probes ask every second."""
    return bundles.read(directory)


def _process(made: Process, command: tuple[str, ...], *, tty: bool) -> Process:
    env = made.env
    if tty and not any(e.startswith("TERM=") for e in env):
        env = (*env, "TERM=xterm")
    return replace(made, argv=command, env=env, tty=tty, stdin=False, stdin_once=False)


class Collector:
    """Reads a pipe as it fills; keeps *limit* bytes and goes on reading, so that nobody blocks on us."""

    def __init__(self, fd: int, limit: int) -> None:
        self.data = bytearray()
        self._fd = fd
        self._limit = limit
        self._open = True
        asyncio.get_running_loop().add_reader(fd, self._read)

    def _read(self) -> bool:
        """Take what is there; False when there was nothing."""
        try:
            chunk = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._fd)
            return False
        self.data += chunk[: self._limit - len(self.data)]
        return True

    def finish(self) -> None:
        """The process has ended: take what is buffered, and close."""
        if self._open:
            self._open = False
            while self._read():
                pass
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
