"""How much a client can push into exec, attach and port-forward whose other side takes nothing: nothing is buffered without a bound.

Also what must arrive however it comes: the newest size of a terminal, the end of a client that opens no streams.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from minipod.cli import websocket
from minipod.streaming import remotes, spdy
from minipod.streaming.remotecommand import Wanted
from tests.streaming import Cat, Site, over_spdy, over_websocket

BOUND = 8 << 20  # bytes: all buffers together, the kernel's of sockets and pipes among them


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


async def data_before_its_error_stream(site: Site, pieces: list[bytes]):
    """Send *pieces* on a data stream, then open its error stream; return the client, both ends, and the stream's number."""
    client = spdy.Connection(client=True)
    reader, writer = await over_spdy(site, "/ports", "portforward.k8s.io")
    headers = {"port": "80", "requestid": "0"}
    data = client.open({"streamtype": "data", **headers})
    for piece in pieces:
        client.send(data, piece)
    client.send(data, b"", fin=True)
    client.open({"streamtype": "error", **headers})
    writer.write(client.take())
    return client, reader, writer, data


async def test_a_little_data_before_its_error_stream_arrives() -> None:
    pieces = [b"one", b"two", b"three"]
    async with Site(Cat(), Wanted()) as site:
        _, _, writer, _ = await data_before_its_error_stream(site, pieces)
        while not site.others:  # noqa: ASYNC110 there is no event for it
            await asyncio.sleep(0.01)
        came = b""
        while piece := await asyncio.to_thread(site.others[0].recv, 1 << 16):
            came += piece
        assert came == b"".join(pieces)
        writer.close()


async def test_a_stream_with_too_much_data_before_its_error_stream_is_reset() -> None:
    """Its client does not take a cut stream for a whole one. (Kubernetes' clients open the error stream first.)"""
    async with Site(Cat(), Wanted()) as site:
        client, reader, writer, data = await data_before_its_error_stream(site, [b"x"] * 100)
        events: list[spdy.Event] = []
        while not any(isinstance(e, spdy.Reset) for e in events):
            came = await reader.read(1 << 16)
            assert came
            events += client.receive(came)
        assert spdy.Reset(data, spdy.Status.CANCEL) in events
        assert not site.others
        writer.close()
