"""One exec or attach: a process' standard streams on one side, a client on the other.

    client --stdin, resize--> Remote --> write ends
    client <--stdout, stderr, error-- Remote <-- read ends

The end of an exec is the process' exit, then what it had written, then one word on the error channel. A client that goes hangs up: the
process' whole session gets SIGHUP, as from a terminal whose line is lost, and SIGKILL when it goes on. An attach ends with the
container's output; when its client goes, the container stays as it is. Whatever happens first, no task, descriptor or process is left:
`run` closes the session's descriptors and returns when all of it is over.

A process that can't be started is told on the error channel, as a kubelet does: by then the connection is upgraded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from minipod.aio.fds import Source, write_all
from minipod.errors import MinipodError
from minipod.runtime.service import ExecSession
from minipod.streaming.channels import Channel, Ending
from minipod.streaming.presence import Presence
from minipod.streaming.terminal_size import Sizes

logger = logging.getLogger(__name__)

CONSOLE_END: Final = 2.0  # seconds for a pty to hang up after its process' exit
HANG_UP: Final = 2.0  # seconds between SIGHUP and SIGKILL when the client has gone
LINGER: Final = 5.0  # seconds for a client to take the end in and to close

Status = dict[str, Any]  # a metav1.Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which streams the client asks for."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


class Sessions(Protocol):
    """What of the runtime's verbs concerns a session (an exec or an attach) that is under way."""

    async def exec_wait(self, session: str) -> int:
        """Wait for the end; return the exit code."""

    async def exec_resize(self, session: str, rows: int, columns: int) -> None:
        """Set the window size."""

    async def exec_kill(self, session: str, signal: int) -> None:
        """Signal an exec's whole session."""

    async def attach_wait(self, session: str) -> None:
        """Return when the container of an attach has ended. Raises FailedPrecondition: its output was cut off before."""

    async def close_stdin(self, session: str) -> None:
        """The client of an attach sends no more stdin."""

    async def detach(self, session: str) -> None:
        """End an attach."""


class Remote(Protocol):
    """The client."""

    def incoming(self) -> AsyncIterator[tuple[Channel, bytes | None]]:
        """Yield what it sends on STDIN and RESIZE, None at the end of a channel; ends when it has gone."""

    async def send(self, channel: Channel, payload: bytes) -> None:
        """Send output. Raises ConnectionError when it has gone."""

    async def ping(self) -> None:
        """Say something that the client's end of the connection answers by itself. Raises ConnectionError."""

    async def finish(self, status: Status) -> None:
        """Say how it ended, and that nothing more comes."""


async def run(
    remote: Remote,
    sessions: Sessions,
    start: Callable[[], Awaitable[ExecSession]],
    wanted: Wanted,
    presence: Presence,
) -> None:
    """Start a process and serve it to its end."""
    try:
        session = await start()
    except (MinipodError, OSError) as e:  # OSError: no descriptors left
        leaving = asyncio.create_task(_until_gone(remote))
        said = e.message if isinstance(e, MinipodError) else str(e)
        await _finish(remote, failure(f"error executing command in container: {said}"), leaving)
        return
    await _Conversation(remote, sessions, session, wanted).run(presence)


class _Conversation:
    def __init__(
        self, remote: Remote, sessions: Sessions, session: ExecSession, wanted: Wanted
    ) -> None:
        self._remote = remote
        self._sessions = sessions
        self._session = session
        self._wanted = wanted
        self._sources = {
            channel: Source(fd)
            for channel, fd in (
                (Channel.STDOUT, session.stdout_fd), (Channel.STDERR, session.stderr_fd)
            )
            if fd >= 0
        }  # fmt: skip
        self._stdin = session.stdin_fd
        self._sizes = Sizes()

    async def run(self, presence: Presence) -> None:
        outputs = [asyncio.create_task(self._output(channel)) for channel in self._sources]
        incoming = asyncio.create_task(presence.hold(self._incoming(), self._remote.ping))
        ending = asyncio.create_task(self._end(outputs))
        try:
            await asyncio.wait({ending, incoming}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():  # the client went away first
                if not self._session.attached:
                    await self._hang_up(ending)
                return
            await _finish(self._remote, ending.result(), incoming)
        finally:
            tasks = (*outputs, incoming, ending)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for fd in {self._session.stdout_fd, self._session.stderr_fd, self._stdin} - {-1}:
                os.close(fd)
            if self._session.attached:
                with contextlib.suppress(MinipodError):  # it has ended meanwhile
                    await self._sessions.detach(self._session.id)

    async def _hang_up(self, ending: asyncio.Task[Status]) -> None:
        """End the process of a client that has gone."""
        for number in (signal.SIGHUP, signal.SIGKILL):
            try:
                await self._sessions.exec_kill(self._session.id, number)
            except MinipodError as e:
                logger.warning("exec %s can't be ended: %s", self._session.id, e)
                return
            await asyncio.wait({ending}, timeout=HANG_UP)
            if ending.done():
                return

    async def _end(self, outputs: list[asyncio.Task[None]]) -> Status:
        """Wait for the end and for the output before it; return how it ended."""
        try:
            if self._session.attached:
                return await self._end_of_attach(outputs)
            return await self._end_of_exec(outputs)
        except MinipodError as e:
            return failure(e.message)

    async def _end_of_attach(self, outputs: list[asyncio.Task[None]]) -> Status:
        await asyncio.wait(outputs)
        await self._sessions.attach_wait(self._session.id)
        return exit_status(0)

    async def _end_of_exec(self, outputs: list[asyncio.Task[None]]) -> Status:
        code = await self._sessions.exec_wait(self._session.id)
        for source in self._sources.values():
            if self._wanted.tty:
                # A pty hangs up by itself, and what it holds becomes readable only some time after it was written.
                asyncio.get_running_loop().call_later(CONSOLE_END, source.finish)
            else:
                source.finish()
        await asyncio.wait(outputs)
        return exit_status(code)

    async def _output(self, channel: Channel) -> None:
        wanted = self._wanted.stderr if channel is Channel.STDERR else self._wanted.stdout
        while chunk := await self._sources[channel].read():
            if wanted:
                try:
                    await self._remote.send(channel, chunk)
                except ConnectionError:
                    wanted = False  # go on reading: the process must not block before it is ended

    async def _incoming(self) -> None:
        async for channel, payload in self._remote.incoming():
            if channel is Channel.RESIZE:
                await self._resize(payload or b"")
            elif payload is None:
                await self._close_stdin()
            elif self._stdin >= 0:
                try:
                    await write_all(self._stdin, payload)
                except OSError:
                    await self._close_stdin()  # nobody reads it: the rest is thrown away

    async def _resize(self, payload: bytes) -> None:
        if (size := self._sizes.feed(payload)) is not None and self._wanted.tty:
            with contextlib.suppress(MinipodError):  # it has ended meanwhile
                await self._sessions.exec_resize(self._session.id, *size)

    async def _close_stdin(self) -> None:
        if self._stdin >= 0 and not self._wanted.tty:
            os.close(self._stdin)
            self._stdin = -1
            with contextlib.suppress(MinipodError):
                await self._sessions.close_stdin(self._session.id)


async def _until_gone(remote: Remote) -> None:
    async for _ in remote.incoming():
        pass


async def _finish(remote: Remote, status: Status, incoming: asyncio.Task[None]) -> None:
    """Tell the end; then the client closes first: closing at once could reset the connection and take the last bytes from it."""
    with contextlib.suppress(ConnectionError):
        await remote.finish(status)
        await asyncio.wait({incoming}, timeout=LINGER)
    incoming.cancel()


def exit_status(code: int) -> Status:
    """Return the Status that tells an exit code (client-go's remotecommand reads it)."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }  # fmt: skip


def failure(message: str) -> Status:
    """Return the Status of a command that was not run."""
    return {
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": f"Internal error occurred: {message}", "details": {"causes": [{"message": message}]},
    }  # fmt: skip


def spoken(status: Status, ending: Ending) -> bytes:
    """Return what goes over the error channel for *status*: b"" for nothing."""
    if ending is Ending.STATUS:
        return json.dumps(status).encode()
    return b"" if status["status"] == "Success" else str(status["message"]).encode()
