"""What the API server needs of the node for logs and exec, and the channels of exec over a WebSocket.

Sub-protocols v5.channel.k8s.io and v4: binary frames, the first byte is the channel: 0 stdin, 1 stdout, 2 stderr, 3 error (one
metav1.Status at the end), 4 resize; 255 (v5) closes the channel that follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import WSMsgType, web

from minipod.runtime.service import ExecSession

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
CHUNK = 32 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """The query of GET .../log."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since_seconds: int | None = None
    since_time: str = ""
    limit_bytes: int | None = None


class NodeStreams(Protocol):
    """What the daemon offers. Raises NotFound, FailedPrecondition."""

    def logs(self, pod: dict[str, Any], query: LogQuery) -> AsyncIterator[bytes]:
        """Yield the log's bytes."""

    async def exec(
        self,
        pod: dict[str, Any],
        container: str,
        command: tuple[str, ...],
        *,
        tty: bool,
        stdin: bool,
    ) -> ExecSession:
        """Start a command; the fds are the caller's."""

    async def attach(self, pod: dict[str, Any], container: str, *, stdin: bool) -> ExecSession:
        """Return a live copy of the container's output."""

    async def exec_wait(self, session: str) -> int:
        """Wait for its exit code."""

    async def exec_resize(self, session: str, rows: int, columns: int) -> None:
        """Set the window size."""

    async def exec_kill(self, session: str, signal: int) -> None:
        """Signal its session."""


class ExecChannels:
    """One exec over one WebSocket: pumps three streams until the process ends, then says how."""

    def __init__(
        self, socket: web.WebSocketResponse, session: ExecSession, node: NodeStreams
    ) -> None:
        self._socket = socket
        self._session = session
        self._node = node
        self._stdin = session.stdin_fd

    async def run(self) -> None:
        """Return when the process has ended and its output is sent; a client that goes kills the session."""
        session = self._session
        outputs = [asyncio.create_task(self._output(STDOUT, session.stdout_fd))]
        if session.stderr_fd >= 0:
            outputs.append(asyncio.create_task(self._output(STDERR, session.stderr_fd)))
        ended = asyncio.create_task(self._node.exec_wait(session.id))
        incoming = asyncio.create_task(self._incoming())
        try:
            await asyncio.wait({ended, incoming}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():  # the client went away first
                await self._node.exec_kill(session.id, 9)
            code = await ended
            # What is buffered, not end of file: a child left behind may hold the pipes for ever.
            await asyncio.wait(outputs, timeout=0.2)
            await self._say_end(code)
        finally:
            for task in (*outputs, incoming):
                task.cancel()
            await asyncio.gather(*outputs, incoming, return_exceptions=True)
            for fd in {session.stdout_fd, session.stderr_fd, self._stdin} - {-1}:
                os.close(fd)

    async def _output(self, channel: int, fd: int) -> None:
        while chunk := await read_some(fd):
            await self._socket.send_bytes(bytes([channel]) + chunk)

    async def _incoming(self) -> None:
        async for message in self._socket:
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            channel, payload = message.data[0], message.data[1:]
            if channel == STDIN and self._stdin >= 0:
                with contextlib.suppress(BrokenPipeError, OSError):
                    await write_all(self._stdin, payload)
            elif channel == CLOSE and payload == bytes([STDIN]):
                self._close_stdin()
            elif channel == RESIZE:
                size = json.loads(payload)
                await self._node.exec_resize(self._session.id, size["Height"], size["Width"])

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    async def _say_end(self, code: int) -> None:
        status: dict[str, Any] = {"metadata": {}, "status": "Success"}
        if code:
            status = {
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": f"command terminated with non-zero exit code: exit status {code}",
                "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
            }  # fmt: skip
        with contextlib.suppress(ConnectionError):
            await self._socket.send_bytes(bytes([ERROR]) + json.dumps(status).encode())
            await self._socket.close()


async def read_some(fd: int) -> bytes:
    """Read what is there, waiting for something; b"" at the end (EIO is a pty's end)."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            ready = loop.create_future()
            loop.add_reader(fd, _resolve, ready)
            try:
                await ready
            finally:
                loop.remove_reader(fd)
        except OSError:
            return b""


async def write_all(fd: int, payload: bytes) -> None:
    """Write everything, waiting while the pipe is full."""
    loop = asyncio.get_running_loop()
    view = memoryview(payload)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            ready = loop.create_future()
            loop.add_writer(fd, _resolve, ready)
            try:
                await ready
            finally:
                loop.remove_writer(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
