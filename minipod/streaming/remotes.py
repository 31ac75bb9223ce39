"""The two ways in which a client of exec and attach speaks: channels of a WebSocket, streams of SPDY/3.1."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from minipod.streaming import spdy
from minipod.streaming.carriers import Carrier, Channels
from minipod.streaming.channels import Ending
from minipod.streaming.numbers import Channel
from minipod.streaming.remotecommand import Status, Wanted, spoken

CREATION: Final = (
    30.0  # seconds for a SPDY client to open its streams (a kubelet's streamCreationTimeout)
)

EARLY: Final = (
    64  # events, data among them, that a SPDY client may cause before it has opened its streams
)

_CLOSE_STDIN: Final = (Channel.CLOSE, bytes([Channel.STDIN]))

# What we would rather speak comes first. v5 exists over WebSockets only: SPDY closes a stream by itself.
SPDY_PROTOCOLS: Final = (
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
)


class WebSocketRemote:
    """See `minipod.streaming.remotecommand.Remote`."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self.ping = channels.ping
        self.send = channels.send

    async def incoming(self) -> AsyncIterator[tuple[Channel, bytes | None]]:
        closes = self._channels.protocol.closes
        async for channel, payload in self._channels.incoming():
            if channel in (Channel.STDIN, Channel.RESIZE):
                yield Channel(channel), payload
            elif closes and (channel, payload) == _CLOSE_STDIN:
                yield Channel.STDIN, None
            # Another number is ignored, as Kubernetes does.

    async def greet(self, wanted: Wanted) -> None:
        """Answer the upgrade; then comes an empty message on the first channel that the client reads, as from Kubernetes.

        Who speaks v5 is client-go, which before 1.34 loses what comes before it has made its streams (kubernetes/kubernetes#131189):
        it makes them while it begins to read, so it is waited for.
        """
        await self._channels.open()
        if self._channels.protocol.closes:
            await self._channels.await_reader()
            return
        first = (
            Channel.STDOUT if wanted.stdout else Channel.STDERR if wanted.stderr else Channel.ERROR
        )
        await self.send(first, b"")

    async def finish(self, status: Status) -> None:
        if said := spoken(status, self._channels.protocol.ending):
            await self.send(Channel.ERROR, said)
        await self._channels.close()


class SpdyRemote:
    """See `minipod.streaming.remotecommand.Remote`. `accept` before anything else."""

    def __init__(self, carrier: Carrier, protocol: str, wanted: Wanted) -> None:
        self._carrier = carrier
        self._connection = spdy.Connection()
        self._ending = Ending.STATUS if protocol == "v4.channel.k8s.io" else Ending.SENTENCE
        self._missing = {"error"} | {
            name
            for name, asked in (
                ("stdin", wanted.stdin),
                ("stdout", wanted.stdout),
                ("stderr", wanted.stderr and not wanted.tty),
                ("resize", wanted.tty and protocol in ("v4.channel.k8s.io", "v3.channel.k8s.io")),
            )
            if asked
        }
        self._streams: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._pending: deque[spdy.Event] = deque()

    async def accept(self) -> None:
        """Wait until the client has opened every stream it asked for. Raises ConnectionError, TimeoutError."""
        async with asyncio.timeout(CREATION):
            while self._missing:
                if not await self._fill() or len(self._pending) > EARLY:
                    raise ConnectionResetError("the client did not open its streams")
                opened = [e for e in self._pending if isinstance(e, spdy.StreamOpened)]
                self._pending = deque(e for e in self._pending if e not in opened)
                for event in opened:
                    self._open(event)
                await self._flush()

    def _open(self, event: spdy.StreamOpened) -> None:
        name = event.headers.get("streamtype", "")
        if name not in self._missing:
            self._connection.reset(event.stream, spdy.Status.REFUSED_STREAM)
            return
        self._missing.discard(name)
        self._streams[name], self._names[event.stream] = event.stream, name
        self._connection.reply(event.stream)

    async def _fill(self) -> bool:
        """Read once; False when the client has gone or talks nonsense."""
        data = await self._carrier.receive()
        try:
            self._pending += self._connection.receive(data)
        except spdy.ProtocolError:
            await self._flush()
            return False
        await self._flush()
        return bool(data)

    async def _flush(self) -> None:
        await self._carrier.send(self._connection.take())

    async def incoming(self) -> AsyncIterator[tuple[Channel, bytes | None]]:
        with contextlib.suppress(ConnectionError):
            while self._pending or await self._fill():
                while self._pending:
                    if (found := self._meaning(self._pending.popleft())) is not None:
                        yield found

    def _meaning(self, event: spdy.Event) -> tuple[Channel, bytes | None] | None:
        match event:
            case spdy.StreamOpened(stream):
                self._connection.reset(stream, spdy.Status.REFUSED_STREAM)
            case spdy.Data(stream, payload):
                name = self._names.get(stream)
                if name in ("stdin", "resize"):
                    return Channel[name.upper()], payload
            case spdy.Finished(stream) | spdy.Reset(stream):
                if self._names.get(stream) == "stdin":
                    return Channel.STDIN, None
            case _:
                pass
        return None

    async def send(self, channel: Channel, payload: bytes) -> None:
        stream = self._streams.get(channel.name.lower())
        if stream is not None:
            self._connection.send(stream, payload)
            await self._flush()

    async def ping(self) -> None:
        self._connection.ping()
        await self._flush()

    async def greet(self, wanted: Wanted) -> None:
        """Nothing: it has heard of each of its streams that it is there."""

    async def finish(self, status: Status) -> None:
        for name, stream in self._streams.items():
            said = spoken(status, self._ending) if name == "error" else b""
            self._connection.send(stream, said, fin=True)
        self._connection.go_away()
        await self._flush()
