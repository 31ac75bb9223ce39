"""exec, attach and port-forward behind a real HTTP server: the server, its sockets and pipes are real, the process is a coroutine."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile

from aiohttp import web

from minipod.aio.fds import Source, write_all
from minipod.aio.local import Listener
from minipod.errors import FailedPrecondition, Unavailable
from minipod.runtime.service import ExecSession
from minipod.streaming import server
from minipod.streaming.remotecommand import Wanted

VERBS = (
    "start",
    "exec_wait",
    "exec_resize",
    "exec_kill",
    "attach_wait",
    "close_stdin",
    "detach",
)


class Cat:
    """The runtime's verbs over a process that copies stdin to stdout; those that are *failing* find no supervisor.

    *deaf*: it reads nothing; *stubborn*: it minds no SIGHUP.
    """

    def __init__(
        self,
        *,
        attached: bool = False,
        deaf: bool = False,
        stubborn: bool = False,
        failing: frozenset[str] = frozenset(),
    ) -> None:
        self._attached, self._deaf, self._stubborn = attached, deaf, stubborn
        self._failing = failing
        self._ended = asyncio.Event()
        self.sizes: list[tuple[int, int]] = []
        self.detached = 0
        self.task: asyncio.Task[None] | None = None

    @property
    def is_ended_by_us(self) -> bool:
        """Whether it must be over when its client has gone, whatever it reads."""
        return not (self._attached or self._failing & {"exec_kill", "exec_wait"})

    def _fail(self, verb: str) -> None:
        if verb in self._failing:
            raise Unavailable("the supervisor went away")

    async def start(self) -> ExecSession:
        self._fail("start")
        flags = os.O_CLOEXEC | os.O_NONBLOCK
        (stdin, to_stdin), (stdout, to_stdout), (stderr, to_stderr) = (
            os.pipe2(flags) for _ in range(3)
        )
        os.write(to_stderr, b"hello")
        self.task = asyncio.create_task(self._run(stdin, to_stdout, to_stderr))
        return ExecSession(
            id="s", stdin_fd=to_stdin, stdout_fd=stdout, stderr_fd=stderr, attached=self._attached
        )  # fmt: skip

    async def _run(self, stdin: int, stdout: int, stderr: int) -> None:
        try:
            source = Source(stdin)
            if not self._deaf:
                while chunk := await source.read():
                    await write_all(stdout, chunk)
            else:
                await asyncio.Event().wait()
        except OSError:
            pass  # SIGPIPE
        finally:
            self._ended.set()
            for fd in (stdin, stdout, stderr):
                os.close(fd)

    async def exec_wait(self, session: str) -> int:
        self._fail("exec_wait")
        await self._ended.wait()
        return 7

    async def exec_resize(self, session: str, rows: int, columns: int) -> None:
        self._fail("exec_resize")
        self.sizes.append((rows, columns))

    async def exec_kill(self, session: str, signal: int) -> None:
        self._fail("exec_kill")
        if signal == 9 or not self._stubborn:
            self.task.cancel()

    async def attach_wait(self, session: str) -> None:
        self._fail("attach_wait")

    async def close_stdin(self, session: str) -> None:
        self._fail("close_stdin")

    async def detach(self, session: str) -> None:
        self.detached += 1
        self._fail("detach")


class Site:
    """A server with one exec (or attach) and a port-forward; keeps what its handlers raised."""

    def __init__(self, cat: Cat, wanted: Wanted) -> None:
        self.cat, self.wanted = cat, wanted
        self.raised: list[BaseException] = []
        self.others: list[socket.socket] = []
        self.half_closes = True
        self._running = 0
        self._idle = asyncio.Event()

    async def __aenter__(self) -> Site:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: self.raised.append(context.get("exception") or context)
        )
        app = web.Application()
        app.add_routes([web.route("*", "/{verb}", self._serve)])
        self._directory = tempfile.TemporaryDirectory()
        self.path = f"{self._directory.name}/s"
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        assert self._runner.server is not None
        self._listener = Listener(self.path, self._runner.server)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(self._idle.wait(), 30)
        if self.cat.task is not None:
            if not self.cat.is_ended_by_us:
                self.cat.task.cancel()
            await asyncio.gather(self.cat.task, return_exceptions=True)
        self._listener.close()
        await self._runner.cleanup()
        for other in self.others:
            other.close()
        self._directory.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self._running += 1
        try:
            if request.match_info["verb"] == "exec":
                return await server.remote_command(request, self.cat, self.cat.start, self.wanted)
            return await server.port_forward(request, self._connect)
        except FailedPrecondition as e:
            return web.Response(status=400, text=e.message)
        except Exception as e:
            self.raised.append(e)
            raise
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _connect(self, port: int) -> socket.socket:
        """Return a connection whose other side has said something, and never reads."""
        if port != 80:
            raise FailedPrecondition("connection refused")
        ours, other = socket.socketpair()
        ours.setblocking(False)
        other.send(b"welcome")
        self.others.append(other)
        if self.half_closes and len(self.others) % 2:
            other.shutdown(socket.SHUT_WR)
        return ours


async def connect(site: Site, target: str, upgrade: str, *headers: str):
    """Ask for an upgrade; return reader and writer once it is there."""
    reader, writer = await asyncio.open_unix_connection(site.path)
    lines = (
        f"GET {target} HTTP/1.1", "Host: m", "Connection: Upgrade", f"Upgrade: {upgrade}", *headers
    )  # fmt: skip
    writer.write("\r\n".join((*lines, "", "")).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head, head
    return reader, writer


def over_websocket(site: Site, target: str, protocol: str):
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    named = (f"Sec-WebSocket-Protocol: {protocol}",) if protocol else ()
    return connect(site, target, "websocket", "Sec-WebSocket-Version: 13", key, *named)


def over_spdy(site: Site, target: str, protocol: str):
    return connect(site, target, "SPDY/3.1", f"X-Stream-Protocol-Version: {protocol}")
