"""What carries bytes between a client and us: an HTTP connection after its upgrade, or the messages of a WebSocket.

    Upgraded, Messages    one stream of bytes (`Carrier`), for SPDY
    Channels              many, by number

All push back: reading stops while nobody takes what was read, and `send` waits while the client is slow.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.http import WSCloseCode, WSMessage, WSMsgType

from minipod.errors import FailedPrecondition
from minipod.streaming.channels import by_name

MESSAGE_MAX: Final = 32 << 20  # bytes of one WebSocket message, as golang.org/x/net/websocket takes
_BUFFER: Final = 256 << 10  # bytes that are read ahead
_READING: Final = 1.0  # seconds for a client that is connected to begin to read
_END: Final = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


class Carrier(Protocol):
    """Bytes in order, both ways."""

    async def receive(self) -> bytes:
        """Return some bytes; b"" when the client has gone."""

    async def send(self, data: bytes) -> None:
        """Send all of *data*. Raises ConnectionError."""


class Upgraded:
    """The connection of a request, after "101 Switching Protocols": ours until `close`."""

    def __init__(self, request: web.Request, headers: Mapping[str, str]) -> None:
        self.response = web.StreamResponse(status=101, headers={"Connection": "Upgrade", **headers})
        self._request = request
        self._input = bytearray()
        self._arrived = asyncio.Event()
        self._ended = False

    async def start(self) -> None:
        """Answer 101 and take the connection over."""
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        # aiohttp hands what comes to whatever has feed_data and feed_eof, as it does for a WebSocket.
        parser: Any = self
        self._request.protocol.set_parser(parser)
        await self.response.prepare(self._request)
        self._transport = transport

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take what came (called by aiohttp)."""
        self._input += data
        self._arrived.set()
        if len(self._input) > _BUFFER:
            self._pause(on=True)
        return False, b""

    def feed_eof(self) -> None:
        """The client has gone (called by aiohttp)."""
        self._ended = True
        self._arrived.set()

    def _pause(self, *, on: bool) -> None:
        transport = self._request.transport
        if transport is not None:
            with contextlib.suppress(RuntimeError):  # closing already
                transport.pause_reading() if on else transport.resume_reading()

    async def receive(self) -> bytes:
        while not self._input and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._input)
        self._input.clear()
        if len(data) > _BUFFER:
            self._pause(on=False)
        return data

    async def send(self, data: bytes) -> None:
        if data:
            await self.response.write(data)

    def close(self) -> None:
        """End the connection."""
        self.response.force_close()
        if self._request.transport is not None:
            self._request.transport.close()


async def _received(socket: web.WebSocketResponse) -> WSMessage:
    """Return the next message but pings, which are answered. *socket* was made with `autoping=False`."""
    while (message := await socket.receive()).type is WSMsgType.PING:
        await socket.pong(message.data)
    return message


class Messages:
    """The binary messages of a WebSocket as one byte stream; where one ends says nothing."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> bytes:
        while (message := await _received(self._socket)).type not in _END:
            if message.type is WSMsgType.BINARY and message.data:
                return bytes(message.data)
        return b""

    async def send(self, data: bytes) -> None:
        if data:
            await self._socket.send_bytes(data)


class Channels:
    """A WebSocket with one of the sub-protocols of `minipod.streaming.channels`."""

    def __init__(
        self, request: web.Request, socket: web.WebSocketResponse, protocol: str | None
    ) -> None:
        self.protocol = by_name(protocol)
        self._request = request
        self._socket = socket
        self._code = WSCloseCode.OK
        self._early: WSMessage | None = None  # came before `incoming` was asked for it

    async def open(self) -> None:
        """Answer the request; before anything else. Raises ConnectionError."""
        await self._socket.prepare(self._request)

    async def await_reader(self) -> None:
        """Return when the client reads what comes: it has answered a ping, or said something. One that does not is not waited for long.

        Behind `open`, before `incoming`. Raises ConnectionError.
        """
        await self.ping()
        try:
            async with asyncio.timeout(_READING):
                self._early = await _received(self._socket)
        except TimeoutError:
            pass

    async def incoming(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield numbers and bytes, until the client has gone or said what makes no sense: nor would what follows."""
        while (message := self._early or await _received(self._socket)).type not in _END:
            self._early = None
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                continue
            try:
                found = self.protocol.decode(message.data)
            except FailedPrecondition:
                self._code = WSCloseCode.INVALID_TEXT
                return
            if found is not None:
                yield found

    async def send(self, channel: int, payload: bytes) -> None:
        """Send one message. Raises ConnectionError."""
        if not self._socket.prepared:
            raise ConnectionResetError("the client went before it was answered")
        message = self.protocol.encode(channel, payload)
        if isinstance(message, str):
            await self._socket.send_str(message)
        else:
            await self._socket.send_bytes(message)

    async def ping(self) -> None:
        """Send what the client's end answers by itself. Raises ConnectionError."""
        await self._socket.ping()

    async def close(self) -> None:
        """Say goodbye. Idempotent."""
        if self._socket.prepared:
            await self._socket.close(code=self._code)
