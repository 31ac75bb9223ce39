"""One more process in a running container: with pipes, with a pty, or run to its end.

The supervisor is asked once, and answers when it has ended; a pty's master comes before that. The end of an exec is its process' exit,
then what is buffered; not the end of its pipes, which a child it left behind may hold open for ever. What it may do comes from the
container's bundle, never from the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from dataclasses import dataclass
from functools import lru_cache

from minipod import errors
from minipod.runtime import bundle as bundles
from minipod.runtime.service import ContainerState, ExecResult, ExecSession
from minipod.runtime.state import Container
from minipod.runtime.supervisor_client import Answer, SupervisorClient
from minipod.spec.bundle import Bundle
from minipod.spec.ids import ContainerId

CHUNK = 64 << 10


LOST = 137  # the exit code of what was killed with its supervisor


@dataclass(slots=True)
class Running:
    """One exec under way: the answer to come, and the master of its pty."""

    ended: asyncio.Future[Answer]
    master: int = -1


class Execs:
    """The exec verbs."""

    def __init__(self, supervisor: SupervisorClient, run_dir: str) -> None:
        self._supervisor = supervisor
        self._run_dir = run_dir
        self._running: dict[str, Running] = {}
        self._consoles: dict[str, asyncio.Future[int]] = {}
        self._null = -1

    def opened(self, session: str, console: int) -> None:
        """The supervisor sends the master of its pty."""
        future = self._consoles.pop(session, None)
        if future is None or future.done():
            os.close(console)
        else:
            future.set_result(console)

    async def sync(
        self, container: Container, command: tuple[str, ...], timeout: float, limit: int
    ) -> ExecResult:
        """Run to the end. DeadlineExceeded after *timeout* seconds (0: none), the session killed. Raises Unavailable, SetupFailed."""
        session = await self.start(container, command, tty=False, stdin=False)
        outputs = (Collector(session.stdout_fd, limit), Collector(session.stderr_fd, limit))
        try:
            async with asyncio.timeout(timeout or None):
                code = await self._end_of(session.id)
        except TimeoutError:
            await self.kill(session.id, 9)
            with contextlib.suppress(errors.SetupFailed):  # it had no process yet
                await self._end_of(session.id)
            raise errors.DeadlineExceeded(
                f"command {' '.join(command)!r} timed out after {timeout:g} s"
            ) from None
        except asyncio.CancelledError:
            # Nobody waits for it any more (a hook of a pod that is to end at once): it must not go on behind our back.
            self._forget(session.id)
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
        session, target = os.urandom(16).hex(), container.record.id
        if tty:
            return await self._with_console(session, target, command)
        return await self._with_pipes(session, target, command, stdin=stdin)

    async def _ask(
        self, session: str, target: ContainerId, command: tuple[str, ...], stdio: tuple[int, ...]
    ) -> asyncio.Future[Answer]:
        """Ask for an exec, one with a pty where there is no *stdio*; return what will be answered when it has ended."""
        ended = await self._supervisor.ask(
            "exec", id=session, container=target, argv=command, tty=not stdio, fds=stdio
        )
        ended.add_done_callback(_take_notice)
        self._running[session] = Running(ended)
        return ended

    async def _with_console(
        self, session: str, target: ContainerId, command: tuple[str, ...]
    ) -> ExecSession:
        console = self._consoles[session] = asyncio.get_running_loop().create_future()
        ended = await self._ask(session, target, command, ())
        ended.add_done_callback(lambda _: _no_console(console, ended))
        try:
            master = await console
        except BaseException:
            del self._running[session]
            raise
        finally:
            self._consoles.pop(session, None)
        self._running[session].master = os.dup(master)
        os.set_blocking(master, False)
        return ExecSession(id=session, stdin_fd=os.dup(master), stdout_fd=master, stderr_fd=-1)

    async def _with_pipes(
        self, session: str, target: ContainerId, command: tuple[str, ...], *, stdin: bool
    ) -> ExecSession:
        made = _bundle_of(f"{self._run_dir}/containers/{target}")
        first = 0 if made.userns is None else made.userns.first
        owner = (first + made.process.uid, first + made.process.gid)
        ours, theirs = [-1, -1, -1], [-1, -1, -1]
        try:
            if stdin:
                theirs[0], ours[0] = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(ours[0], False)
            else:
                theirs[0] = self._nothing()
            for n in (1, 2):
                ours[n], theirs[n] = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(ours[n], False)
                if any(owner):
                    os.fchown(theirs[n], *owner)
            await self._ask(session, target, command, tuple(theirs))
        except BaseException:
            for fd in ours:
                if fd >= 0:
                    os.close(fd)
            raise
        finally:
            for fd in theirs:
                if fd >= 0 and fd != self._null:
                    os.close(fd)
        return ExecSession(id=session, stdin_fd=ours[0], stdout_fd=ours[1], stderr_fd=ours[2])

    def _nothing(self) -> int:
        """Return a stdin for who has none: the same one for all, which stays open."""
        if self._null < 0:
            self._null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        return self._null

    async def wait(self, session: str) -> int:
        """Wait for its exit code, LOST with its supervisor, and forget it. Raises SetupFailed when it could not be started."""
        try:
            answer, _ = await self._known(session).ended  # who is cancelled here hears no answer
        except errors.Unavailable:
            return LOST
        finally:
            self._forget(session)
        return int(answer["code"])

    async def _end_of(self, session: str) -> int:
        """Do what `wait` does. Raises Unavailable when the supervisor has gone: nobody knows whether it had begun."""
        running = self._known(session)
        await asyncio.wait((running.ended,))  # who is cancelled here leaves it as it is
        self._forget(session)
        answer, _ = running.ended.result()
        return int(answer["code"])

    def _forget(self, session: str) -> None:
        running = self._running.pop(session, None)
        if running is not None and running.master >= 0:
            os.close(running.master)

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


def _take_notice(ended: asyncio.Future[Answer]) -> None:
    """Nobody may be waiting for it any more; asyncio would tell of an error that nobody has seen."""
    if not ended.cancelled():
        ended.exception()


def _no_console(console: asyncio.Future[int], ended: asyncio.Future[Answer]) -> None:
    """It has ended: who still waits for its console learns why there is none."""
    if not (console.done() or ended.cancelled()):
        console.set_exception(ended.exception() or errors.Internal("an exec without its console"))


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
