"""What a WebSocket client is told first and last, and when: nothing that one which is not reading yet could lose."""

from __future__ import annotations

import asyncio

import pytest

from minipod.cli import websocket
from minipod.streaming import carriers
from minipod.streaming.remotecommand import Wanted
from tests.streaming import Cat, Site, over_websocket

WANTED = Wanted(stdin=True, stdout=True, stderr=True)  # a Cat says hello on its stderr
HELLO = (websocket.BINARY, b"\x02hello")


class Client:
    """A client of exec that answers nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = websocket.Decoder()
        self._messages: list[tuple[int, bytes]] = []

    async def hear(self) -> tuple[int, bytes]:
        """Return the next message."""
        while not self._messages:
            data = await asyncio.wait_for(self._reader.read(1 << 16), 30)
            assert data, "the server has gone"
            self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    def say(self, opcode: int, payload: bytes) -> None:
        self._writer.write(websocket.frame(opcode, payload))

    async def hears_the_end(self, seconds: float) -> bool:
        """Whether the server closes the connection by then."""
        try:
            return not await asyncio.wait_for(self._reader.read(1), seconds)
        except TimeoutError:
            return False

    def leave(self) -> None:
        self._writer.close()


async def connected(site: Site, protocol: str) -> Client:
    return Client(*await over_websocket(site, "/exec", protocol))


@pytest.mark.parametrize(
    ("opcode", "payload", "echo"),
    [
        pytest.param(websocket.PONG, b"", [], id="by its pong"),
        pytest.param(websocket.BINARY, b"\x00typed", [(websocket.BINARY, b"\x01typed")], id="by its stdin"),
    ],
)  # fmt: skip
async def test_output_waits_until_a_v5_client_is_heard(monkeypatch, opcode, payload, echo) -> None:
    monkeypatch.setattr(carriers, "_READING", 60.0)  # longer than `hear` waits
    async with Site(Cat(), WANTED) as site:
        client = await connected(site, "v5.channel.k8s.io")
        assert await client.hear() == (websocket.PING, b"")
        client.say(opcode, payload)
        expected = [HELLO, *echo]
        heard = [await client.hear() for _ in expected]
        assert sorted(heard) == sorted(expected)
        client.leave()


async def test_a_client_that_stays_silent_is_waited_for_but_not_long(
    monkeypatch,
) -> None:
    monkeypatch.setattr(carriers, "_READING", 5.0)
    begin = asyncio.get_running_loop().time()
    async with Site(Cat(), WANTED) as site:
        client = await connected(site, "v5.channel.k8s.io")
        assert [await client.hear(), await client.hear()] == [(websocket.PING, b""), HELLO]
        client.leave()
    assert asyncio.get_running_loop().time() - begin >= 5.0


async def test_a_client_that_leaves_instead_of_reading_ends_the_command(monkeypatch) -> None:
    monkeypatch.setattr(carriers, "_READING", 60.0)
    async with Site(Cat(), WANTED) as site:
        client = await connected(site, "v5.channel.k8s.io")
        assert await client.hear() == (websocket.PING, b"")
        client.leave()
    assert site.cat.task is not None
    assert site.cat.task.done()


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "channel.k8s.io"])
async def test_others_are_told_at_once_that_they_are_connected(protocol) -> None:
    async with Site(Cat(), WANTED) as site:
        client = await connected(site, protocol)
        assert [await client.hear(), await client.hear()] == [(websocket.BINARY, b"\x01"), HELLO]
        client.leave()


async def test_a_client_s_pings_are_answered() -> None:
    async with Site(Cat(), WANTED) as site:
        client = await connected(site, "v4.channel.k8s.io")
        client.say(websocket.PING, b"are you there")
        heard = [await client.hear() for _ in range(3)]
        assert (websocket.PONG, b"are you there") in heard
        client.leave()


async def test_the_server_closes_behind_its_client(monkeypatch) -> None:
    """A client may have to answer a ping before it reads the rest, and loses that where the connection is closed (aiohttp)."""
    monkeypatch.setattr(carriers, "_READING", 60.0)
    async with Site(Cat(), WANTED) as site:
        client = await connected(site, "v5.channel.k8s.io")
        client.say(websocket.BINARY, b"\x00typed")
        client.say(websocket.BINARY, b"\xff\x00")
        heard = [await client.hear() for _ in range(5)]
        assert heard[0] == (websocket.PING, b"")
        assert sorted(heard[1:3]) == [(websocket.BINARY, b"\x01typed"), HELLO]
        assert b"exit status 7" in heard[3][1]
        assert heard[4][0] == websocket.CLOSE
        assert not await client.hears_the_end(0.3)
        client.say(websocket.PONG, b"")
        client.say(websocket.CLOSE, heard[4][1])
        assert await client.hears_the_end(30.0)
        client.leave()
