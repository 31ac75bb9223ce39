"""The transport of unix sockets: what asyncio promises a protocol, and that a new connection is read in the turn in which it is accepted.

Excluded: what aiohttp does with it (tests/streaming.py and tests/apiserver.py serve over it).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket

import pytest

from minipod.aio.local import HIGH, LOW, RETRY, Listener, LocalTransport


class Said(asyncio.Protocol):
    """Notes what it is told, in order."""

    def __init__(self, *, keeps_open: bool = False) -> None:
        self.told: list[object] = []
        self.keeps_open = keeps_open
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, LocalTransport)
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def eof_received(self) -> bool:
        self.told.append("end")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@contextlib.asynccontextmanager
async def served(tmp_path, **how):
    """Yield a client's socket and the protocol of its connection, the client's first word sent before it is accepted."""
    found: list[Said] = []

    def factory() -> Said:
        found.append(Said(**how))
        return found[-1]

    listener = Listener(f"{tmp_path}/s", factory)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        client.connect(f"{tmp_path}/s")
        client.send(b"first")
        await until(lambda: found)
        yield client, found[0]
    finally:
        client.close()
        found[0].transport.abort()
        await found[0].lost
        listener.close()


async def until(done) -> None:
    async with asyncio.timeout(30):
        while not done():  # noqa: ASYNC110 what it waits for is told by a callback
            await asyncio.sleep(0)


async def received(client: socket.socket, size: int) -> bytes:
    """Read *size* bytes, or up to the end."""
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < size and (chunk := await loop.sock_recv(client, size - len(data))):
        data += chunk
    return data


async def test_what_came_with_a_connection_is_read_in_the_turn_that_accepts_it(tmp_path) -> None:
    async with served(tmp_path) as (_, said):
        assert said.told == ["made", b"first"]


async def test_one_that_says_nothing_at_first_is_heard_later(tmp_path) -> None:
    listener = Listener(f"{tmp_path}/s", lambda: said)
    said = Said()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/s")
        await until(lambda: said.told)
        assert said.told == ["made"]
        client.send(b"late")
        await until(lambda: said.told == ["made", b"late"])
    assert await said.lost is None
    assert said.told[-1] == "end"
    listener.close()


async def test_it_tells_what_kind_of_socket_it_is(tmp_path) -> None:
    async with served(tmp_path) as (_, said):
        about = said.transport.get_extra_info
        assert about("socket").family is socket.AF_UNIX
        assert (about("sockname"), about("peername")) == (f"{tmp_path}/s", "")
        assert about("ssl_object") is None


async def test_nothing_is_read_while_reading_pauses(tmp_path) -> None:
    async with served(tmp_path) as (client, said):
        said.transport.pause_reading()
        client.send(b"more")
        for _ in range(5):
            await asyncio.sleep(0)
        assert said.told == ["made", b"first"]
        said.transport.resume_reading()
        await until(lambda: said.told[-1] == b"more")


async def test_who_does_not_read_makes_the_protocol_pause_and_gets_all_in_order(tmp_path) -> None:
    async with served(tmp_path) as (client, said):
        sent = b""
        while "pause" not in said.told:
            piece = len(sent).to_bytes(4, "big") * (8 << 10)
            said.transport.write(piece)
            sent += piece
        assert said.transport.get_write_buffer_size() > HIGH
        assert await received(client, len(sent)) == sent
        await until(lambda: "resume" in said.told)
        assert said.transport.get_write_buffer_size() <= LOW


async def test_limits_are_those_that_were_set(tmp_path) -> None:
    async with served(tmp_path) as (_, said):
        transport = said.transport
        assert transport.get_write_buffer_limits() == (LOW, HIGH)
        transport.set_write_buffer_limits(high=0)
        assert transport.get_write_buffer_limits() == (0, 0)
        transport.set_write_buffer_limits(low=10)
        assert transport.get_write_buffer_limits() == (10, 40)
        with pytest.raises(ValueError, match="low 2, high 1"):
            transport.set_write_buffer_limits(high=1, low=2)


async def test_what_waits_is_sent_before_the_end(tmp_path) -> None:
    async with served(tmp_path) as (client, said):
        size = 4 << 20
        said.transport.write(bytes(size))
        said.transport.close()
        assert said.transport.is_closing()
        assert len(await received(client, size + 1)) == size
        assert await said.lost is None


async def test_an_abort_sends_nothing_more(tmp_path) -> None:
    async with served(tmp_path) as (client, said):
        said.transport.write(bytes(4 << 20))
        said.transport.abort()
        assert await said.lost is None
        assert len(await received(client, 4 << 20)) < 4 << 20


async def test_half_of_it_ends_behind_what_waits(tmp_path) -> None:
    async with served(tmp_path) as (client, said):
        size = 4 << 20
        said.transport.write(bytes(size))
        said.transport.write_eof()
        assert len(await received(client, size + 1)) == size
        client.send(b"still here")
        await until(lambda: said.told[-1] == b"still here")
        with pytest.raises(RuntimeError):
            said.transport.write(b"more")


async def test_a_protocol_may_go_on_writing_when_the_client_has_said_all(tmp_path) -> None:
    async with served(tmp_path, keeps_open=True) as (client, said):
        client.shutdown(socket.SHUT_WR)
        await until(lambda: said.told[-1] == "end")
        said.transport.write(b"answer")
        assert await received(client, 6) == b"answer"


async def test_one_that_has_gone_is_told_when_something_is_written(tmp_path) -> None:
    async with served(tmp_path) as (client, said):
        said.transport.pause_reading()
        client.close()
        said.transport.write(b"to nobody")
        assert isinstance(await said.lost, BrokenPipeError)
        said.transport.write(b"to nobody")  # and is no error


async def test_a_bug_of_a_protocol_ends_its_connection_only(tmp_path) -> None:
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, c: raised.append(c["exception"]))
    async with served(tmp_path) as (client, said):
        bug = ZeroDivisionError()

        def failing(_: bytes) -> None:
            raise bug

        said.data_received = failing  # type: ignore[method-assign]
        client.send(b"x")
        assert await said.lost is bug
        assert raised == [bug]
        with socket.socket(socket.AF_UNIX) as another:
            another.connect(f"{tmp_path}/s")


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_without_descriptors_nobody_is_accepted_for_a_while(tmp_path, caplog) -> None:
    listener = Listener(f"{tmp_path}/s", Said)
    loop = asyncio.get_running_loop()
    asked: list[float] = []

    class Full:
        """The listening socket of a process that has none left."""

        def fileno(self) -> int:
            return real.fileno()

        def accept(self) -> None:
            asked.append(loop.time())
            raise OSError(errno.EMFILE, "too many open files")

        def close(self) -> None:
            real.close()

    real, full = listener._sock, Full()
    listener._sock = full  # type: ignore[assignment]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/s")
        await asyncio.sleep(2.5 * RETRY)
    assert [b - a >= RETRY for a, b in itertools.pairwise(asked)] == [True, True]
    assert "no connection to" in caplog.text
    listener.close()


async def test_hundreds_that_come_at_once_wait_and_are_all_served(tmp_path) -> None:
    """A client that does not wait for room in the backlog would be refused, or believe that it is connected."""
    served: list[Said] = []

    def factory() -> Said:
        served.append(Said())
        return served[-1]

    listener = Listener(f"{tmp_path}/s", factory)
    kinds = socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            client = stack.enter_context(socket.socket(*kinds))
            client.connect(f"{tmp_path}/s")
            client.send(b"first")
        await until(lambda: len(served) == 400 and served[-1].told)
        assert all(said.told == ["made", b"first"] for said in served)
    for said in served[:400]:
        await said.lost
    listener.close()


async def test_who_gets_no_protocol_is_not_kept_waiting(tmp_path) -> None:
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, c: raised.append(c["exception"]))

    def none() -> asyncio.Protocol:
        raise ZeroDivisionError

    listener = Listener(f"{tmp_path}/s", none)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        client.connect(f"{tmp_path}/s")
        assert await received(client, 1) == b""
    assert [type(e) for e in raised] == [ZeroDivisionError]
    listener.close()


async def test_a_path_that_is_taken_is_an_error(tmp_path) -> None:
    listener = Listener(f"{tmp_path}/s", Said)
    with pytest.raises(OSError, match="in use"):
        Listener(f"{tmp_path}/s", Said)
    listener.close()
    listener.close()
