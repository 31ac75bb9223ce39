"""exec, attach and port-forward behind a real HTTP server, with a client that sends anything, cut anywhere, and goes at any point.

The server, its sockets and pipes are real; the process is a coroutine. No error, task or descriptor is left behind, and nothing is
buffered without a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.aio.fds import Source, write_all
from minipod.cli import websocket
from minipod.errors import FailedPrecondition, Unavailable
from minipod.runtime.service import ExecSession
from minipod.streaming import remotecommand, remotes, server, spdy
from minipod.streaming.remotecommand import Wanted

BOUND = 8 << 20  # bytes: all buffers together, the kernel's of sockets and pipes among them


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
            id="s", pid=1, stdin_fd=to_stdin, stdout_fd=stdout, stderr_fd=stderr, attached=self._attached
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
        await web.UnixSite(self._runner, self.path).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(self._idle.wait(), 30)
        if self.cat.task is not None:
            if not self.cat.is_ended_by_us:
                self.cat.task.cancel()
            await asyncio.gather(self.cat.task, return_exceptions=True)
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


PAYLOADS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"\x00", b"\x04", b'{"Width":80,"Height":24}\n', b'{"Width":1e999,"Height":1}', b"[" * 3000,
                     b'{"Height":' * 300, b"\xff" * 200]),
)  # fmt: skip
MESSAGES = st.one_of(
    st.tuples(st.just(websocket.BINARY), st.integers(0, 255), PAYLOADS),
    st.tuples(st.just(websocket.BINARY), st.sampled_from([0, 0, 0, 1, 2, 3, 4, 4, 255]), PAYLOADS),
    st.tuples(st.sampled_from([0, 1, 3, 8, 9, 10, 15]), st.integers(0, 127), PAYLOADS),
    st.tuples(st.just(-1), st.just(0), st.binary(min_size=1, max_size=30)),  # no frame at all
)
LEAVINGS = st.sampled_from(["abort", "end of file", "close frame", "end of stdin"])


async def say(reader, writer, messages, cuts, leaving: str) -> None:
    """Send the frames in pieces of the sizes *cuts*; then leave as told."""
    wire = b"".join(
        raw if opcode < 0 else websocket.frame(opcode, bytes([channel]) + raw)
        for opcode, channel, raw in messages
    )
    if leaving == "close frame":
        wire += websocket.frame(websocket.CLOSE, b"\x03\xe8")
    elif leaving == "end of stdin":
        wire += websocket.frame(websocket.BINARY, b"\xff\x00")
    listening = asyncio.create_task(reader.read(-1))
    with contextlib.suppress(ConnectionError):
        for n in range(len(wire)):
            if not wire:
                break
            size = cuts[n % len(cuts)]
            writer.write(wire[:size])
            await writer.drain()
            await asyncio.sleep(0)
            wire = wire[size:]
        if leaving == "end of file":
            writer.write_eof()
    if leaving == "end of stdin":
        await asyncio.wait({listening}, timeout=0.05)
    writer.transport.abort()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def nothing_is_left(serve) -> None:
    """Run *serve* in a loop of its own; afterwards there are no tasks but ours and no more descriptors."""

    async def run() -> None:
        before = descriptors()
        site = await serve()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not site.raised
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert descriptors() <= before  # garbage of others may have gone meanwhile

    asyncio.run(run())


@settings(max_examples=150, deadline=None)
@given(
    protocol=st.sampled_from([p.name for p in server.REMOTE_COMMAND]),
    messages=st.lists(MESSAGES, max_size=12),
    cuts=st.lists(st.integers(1, 70), min_size=1, max_size=5),
    leaving=LEAVINGS,
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    tty=st.booleans(),
    failing=st.one_of(st.just(frozenset()), st.frozensets(st.sampled_from(VERBS))),
)
def test_a_session_survives_any_client(
    protocol, messages, cuts, leaving, flags, tty, failing
) -> None:
    """Also when the runtime's verbs fail."""
    attached, deaf, stubborn = flags

    async def serve() -> Site:
        cat = Cat(attached=attached, deaf=deaf, stubborn=stubborn, failing=failing)
        wanted = Wanted(stdin=True, stdout=True, stderr=not tty, tty=tty)
        async with Site(cat, wanted) as site:
            await say(*await over_websocket(site, "/exec", protocol), messages, cuts, leaving)
        assert cat.detached == (attached and "start" not in failing)
        return site

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remotecommand, "HANG_UP", 0.01)
        patch.setattr(remotecommand, "CONSOLE_END", 0.01)
        nothing_is_left(serve)


@settings(max_examples=100, deadline=None)
@given(
    protocol=st.sampled_from(["v4.channel.k8s.io", "v4.base64.channel.k8s.io"]),
    ports=st.lists(st.sampled_from(["80", "81", "80,80"]), min_size=1, max_size=3),
    messages=st.lists(MESSAGES, max_size=12),
    cuts=st.lists(st.integers(1, 70), min_size=1, max_size=5),
    leaving=LEAVINGS,
)
def test_numbered_ports_survive_any_client(protocol, ports, messages, cuts, leaving) -> None:
    async def serve() -> Site:
        async with Site(Cat(), Wanted()) as site:
            target = "/ports?" + "&".join(f"ports={p}" for p in ports)
            await say(*await over_websocket(site, target, protocol), messages, cuts, leaving)
        return site

    nothing_is_left(serve)


# -- bounds: how much a client can push into a server whose other side takes nothing


async def pushed(writer: asyncio.StreamWriter, piece: bytes) -> int:
    """Write *piece* until nothing more goes for a moment; return how many bytes went."""
    writer.transport.set_write_buffer_limits(0)
    size = 0
    with contextlib.suppress(TimeoutError, ConnectionError):
        while size <= 2 * BOUND:
            writer.write(piece)
            size += len(piece)
            async with asyncio.timeout(0.3):
                await writer.drain()
    writer.transport.abort()
    return size


@contextlib.asynccontextmanager
async def deaf_site():
    async with Site(Cat(deaf=True), Wanted(stdin=True, stdout=True)) as site:
        site.half_closes = False
        yield site


async def test_stdin_that_nobody_reads_is_not_collected() -> None:
    async with deaf_site() as site:
        _, writer = await over_websocket(site, "/exec", "v5.channel.k8s.io")
        piece = websocket.frame(websocket.BINARY, b"\x00" + bytes(64 << 10))
        assert await pushed(writer, piece) < BOUND


@pytest.mark.parametrize("streams", [["error", "stdin", "stdout"], ["stdin"]], ids=["all", "one"])
async def test_stdin_over_spdy_is_not_collected_either(streams) -> None:
    """Also when the client sends data while it has not opened all of its streams."""
    async with deaf_site() as site:
        _, writer = await over_spdy(site, "/exec", "v4.channel.k8s.io")
        client = spdy.Connection(client=True)
        opened = {kind: client.open({"streamtype": kind}) for kind in streams}
        writer.write(client.take())
        client.send(opened["stdin"], bytes(64 << 10))
        assert await pushed(writer, client.take()) < BOUND


@pytest.mark.parametrize("tunnel", [True, False], ids=["in messages", "plain"])
async def test_data_for_a_port_that_does_not_read_is_not_collected(tunnel: bool) -> None:
    async with deaf_site() as site:
        client = spdy.Connection(client=True)
        for kind in ("error", "data"):
            stream = client.open({"streamtype": kind, "port": "80", "requestid": "0"})
        wrap = (lambda raw: websocket.frame(websocket.BINARY, raw)) if tunnel else bytes
        protocol = "SPDY/3.1+portforward.k8s.io" if tunnel else "portforward.k8s.io"
        _, writer = await (over_websocket if tunnel else over_spdy)(site, "/ports", protocol)
        writer.write(wrap(client.take()))
        client.send(stream, bytes(64 << 10))
        assert await pushed(writer, wrap(client.take())) < BOUND


async def test_data_on_a_numbered_channel_is_not_collected() -> None:
    async with deaf_site() as site:
        _, writer = await over_websocket(site, "/ports?ports=80", "v4.channel.k8s.io")
        piece = websocket.frame(websocket.BINARY, b"\x00" + bytes(64 << 10))
        assert await pushed(writer, piece) < BOUND


async def test_output_that_the_client_does_not_read_makes_the_process_wait() -> None:
    """What the process could write is what the pipes and sockets hold, not what it had to say."""
    cat = Cat()
    async with Site(cat, Wanted(stdin=True, stdout=True)) as site:
        reader, writer = await over_websocket(site, "/exec", "v5.channel.k8s.io")
        reader._transport.pause_reading()
        piece = websocket.frame(websocket.BINARY, b"\x00" + bytes(64 << 10))
        assert await pushed(writer, piece) < BOUND


@pytest.mark.parametrize(
    "sent",
    [
        [b'{"Width":77,"Height":33}\n'],
        [b'{"Wid', b'th":77,"Hei', b'ght":33}'],
        [b'{"Width":1,"Height":1}\n{"Width":77,"Height":33}\n'],
        [b"[" * 5000, b'{"Width":1e999,"Height":2}', b'{"Width":-1,"Height":2}', b'{"Width":77,"Height":33}'],
    ],
    ids=["one", "cut", "two at once", "after nonsense"],
)  # fmt: skip
async def test_the_newest_size_arrives_however_it_is_cut(sent: list[bytes]) -> None:
    cat = Cat()
    async with Site(cat, Wanted(stdin=True, stdout=True, tty=True)) as site:
        reader, writer = await over_websocket(site, "/exec", "v5.channel.k8s.io")
        for piece in sent:
            writer.write(websocket.frame(websocket.BINARY, b"\x04" + piece))
        writer.write(websocket.frame(websocket.BINARY, b"\x00done"))
        heard = b""
        while b"done" not in heard:
            heard += await reader.read(1 << 16)
        writer.close()
    assert cat.sizes == [(33, 77)]


async def test_streams_that_are_never_opened_end_the_request(monkeypatch) -> None:
    monkeypatch.setattr(remotes, "CREATION", 0.05)
    async with deaf_site() as site:
        reader, writer = await over_spdy(site, "/exec", "v4.channel.k8s.io")
        assert await reader.read() == b""
        writer.close()
    assert site.cat.task is None
