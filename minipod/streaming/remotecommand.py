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
from functools import partial
from typing import Any, Final, Protocol

from minipod.aio.fds import write_all
from minipod.errors import MinipodError, Unavailable
from minipod.runtime.service import ExecSession
from minipod.streaming.channels import Ending
from minipod.streaming.numbers import Channel
from minipod.streaming.outputs import Output
from minipod.streaming.presence import BRIEF, Presence
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

    async def greet(self, wanted: Wanted) -> None:
        """Tell it that it is connected; nothing else is asked for before. Raises ConnectionError when it has gone."""

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
    """Start a process, greet the client, and serve it to its end."""
    try:
        session = await start()
    except (MinipodError, OSError) as e:  # OSError: no descriptors left
        said = e.message if isinstance(e, MinipodError) else str(e)
        with contextlib.suppress(ConnectionError):
            await remote.greet(wanted)
            await _say_goodbye(remote, not_started(said), None)
        return
    await _Conversation(remote, sessions, session, wanted).run(presence)


class _Conversation:
    """One session. A client that only listens is looked after when its command has not ended within BRIEF."""

    def __init__(
        self, remote: Remote, sessions: Sessions, session: ExecSession, wanted: Wanted
    ) -> None:
        self._remote = remote
        self._sessions = sessions
        self._session = session
        self._wanted = wanted
        self._outputs: list[Output] = []
        self._stdin = session.stdin_fd
        self._sizes = Sizes()
        self._patience = asyncio.timeout(None)  # for the end of a process whose client has gone
        self._over = False
        self._incoming: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None

    async def run(self, presence: Presence) -> None:
        listening: asyncio.Handle | None = None
        try:
            try:
                await self._remote.greet(self._wanted)
            except ConnectionError:
                self._left()
            else:
                listening = self._listen_soon(presence)
            self._outputs = self._begin_output()
            async with self._patience:
                status = await self._end()
            self._over = True
            if self._leaving is None:
                await _say_goodbye(self._remote, status, self._incoming)
        except TimeoutError:
            logger.debug("session %s outlives its client", self._session.id)
        finally:
            self._over = True
            if listening is not None:
                listening.cancel()
            await self._close()

    def _begin_output(self) -> list[Output]:
        """Send what the process says, from now on: nothing comes before the greeting."""
        session, wanted = self._session, self._wanted
        return [
            Output(fd, partial(self._remote.send, channel) if asked else None)
            for channel, fd, asked in (
                (Channel.STDOUT, session.stdout_fd, wanted.stdout),
                (Channel.STDERR, session.stderr_fd, wanted.stderr),
            )
            if fd >= 0
        ]

    async def _close(self) -> None:
        tasks = [task for task in (self._incoming, self._leaving) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.gather(*tasks, return_exceptions=True)
        for output in self._outputs:
            await output.close()
        for fd in {self._session.stdout_fd, self._session.stderr_fd, self._stdin} - {-1}:
            os.close(fd)
        if self._session.attached:
            with contextlib.suppress(MinipodError):  # it has ended meanwhile
                await self._sessions.detach(self._session.id)

    def _listen_soon(self, presence: Presence) -> asyncio.Handle:
        def begin() -> None:
            work = presence.hold(self._listen(), self._remote.ping)
            self._incoming = asyncio.create_task(work)
            self._incoming.add_done_callback(lambda _: self._left())

        silent = not (self._wanted.stdin or self._wanted.tty or self._session.attached)
        return asyncio.get_running_loop().call_later(BRIEF if silent else 0, begin)

    def _left(self) -> None:
        """The client has gone, unless it has heard how it ended."""
        if not self._over and self._leaving is None:
            self._leaving = asyncio.create_task(self._hang_up())

    async def _hang_up(self) -> None:
        """End the process of a client that has gone, and after a while what waits for its end. A container goes on."""
        for number in () if self._session.attached else (signal.SIGHUP, signal.SIGKILL):
            try:
                await self._sessions.exec_kill(self._session.id, number)
            except MinipodError as e:
                logger.warning("exec %s can't be ended: %s", self._session.id, e)
                break
            await asyncio.sleep(HANG_UP)
        if not self._over:
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def _end(self) -> Status:
        """Wait for the end and for the output before it; return how it ended."""
        try:
            if self._session.attached:
                return await self._end_of_attach()
            return await self._end_of_exec()
        except MinipodError as e:
            return failure(e.message)

    async def _end_of_attach(self) -> Status:
        for output in self._outputs:
            await output.drained()
        await self._sessions.attach_wait(self._session.id)
        return exit_status(0)

    async def _end_of_exec(self) -> Status:
        try:
            code = await self._sessions.exec_wait(self._session.id)
        except Unavailable:
            raise
        except MinipodError as e:
            return not_started(e.message)
        for output in self._outputs:
            if self._wanted.tty:
                # A pty hangs up by itself, and what it holds becomes readable only some time after it was written.
                asyncio.get_running_loop().call_later(CONSOLE_END, output.finish)
            else:
                output.finish()
        for output in self._outputs:
            await output.drained()
        return exit_status(code)

    async def _listen(self) -> None:
        """Take what the client sends, until it has gone."""
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


async def _say_goodbye(remote: Remote, status: Status, incoming: asyncio.Task[None] | None) -> None:
    """Tell the end; then the client closes first: closing at once could reset the connection and take the last bytes from it.

    *incoming*: who listens to the client already. It ends before: from a WebSocket on which somebody waits for a message aiohttp takes its
    own goodbye for the client's, and closes at once.
    """
    if incoming is not None:
        incoming.cancel()
        await asyncio.wait((incoming,))
    with contextlib.suppress(ConnectionError, TimeoutError):
        await remote.finish(status)
        async with asyncio.timeout(LINGER):
            async for _ in remote.incoming():
                pass


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


def not_started(why: str) -> Status:
    """Return the Status of one that could not be started, in a kubelet's words."""
    return failure(f"error executing command in container: {why}")


def spoken(status: Status, ending: Ending) -> bytes:
    """Return what goes over the error channel for *status*: b"" for nothing."""
    if ending is Ending.STATUS:
        return json.dumps(status).encode()
    return b"" if status["status"] == "Success" else str(status["message"]).encode()
