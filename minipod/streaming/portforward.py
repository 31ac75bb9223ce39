"""Port-forward: TCP connections into a pod's network namespace, many over one SPDY/3.1 connection.

For each connection the client opens two streams with the same `requestid` and `port`: first `streamtype: error`, then `data`.

    client --data--> stream --> socket      half-close travels both ways
    client <--data-- stream <-- socket
    client <--error, a sentence-- refused, or broken

SPDY as Kubernetes uses it has no flow control. Each connection has a bounded queue towards its socket; when one is full, reading from the
client stops until it has room again, so memory stays bounded and one stuck port can hold the others up, as in a kubelet.
Source: k8s.io/kubelet portforward; KEP-4006 for SPDY inside WebSocket messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket as sockets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from minipod.errors import MinipodError
from minipod.streaming import spdy
from minipod.streaming.carriers import Carrier
from minipod.streaming.presence import Presence

logger = logging.getLogger(__name__)

PROTOCOL: Final = "portforward.k8s.io"
TUNNEL: Final = "SPDY/3.1+portforward.k8s.io"  # as the sub-protocol of a WebSocket
CREATION: Final = 30.0  # seconds between the first and the second stream of a pair
QUEUE: Final = 16  # pieces of data towards one socket
CHUNK: Final = 64 << 10  # bytes of one data frame

Connect = Callable[[int], Awaitable[sockets.socket]]  # port -> a connected, non-blocking socket


@dataclass(slots=True, eq=False)
class _Pair:
    """One connection: its two streams, and what waits to be written to its socket (b"": half-close)."""

    request: str
    error: int = 0
    data: int = 0
    port: str = ""
    queue: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(QUEUE))
    task: asyncio.Task[None] | None = None
    expiry: asyncio.TimerHandle | None = None


class PortForward:
    """Serves one client until it goes."""

    def __init__(self, carrier: Carrier, connect: Connect) -> None:
        self._carrier = carrier
        self._connect = connect
        self._connection = spdy.Connection()
        self._pairs: dict[str, _Pair] = {}
        self._by_data: dict[int, _Pair] = {}
        self._sending = asyncio.Lock()

    async def run(self, presence: Presence) -> None:
        """Return when the client has gone; every connection of it is closed then."""
        try:
            await presence.hold(self._receive(), self._ping)
        except ConnectionError:
            pass
        except spdy.ProtocolError as e:
            logger.info("port-forward: %s", e)
            with contextlib.suppress(ConnectionError):
                await self._flush()
        finally:
            pairs = list(self._pairs.values())
            for pair in pairs:
                self._end(pair)
            await asyncio.gather(*(p.task for p in pairs if p.task), return_exceptions=True)

    async def _receive(self) -> None:
        while data := await self._carrier.receive():
            for event in self._connection.receive(data):
                await self._handle(event)
            await self._flush()

    async def _ping(self) -> None:
        self._connection.ping()
        await self._flush()

    async def _flush(self) -> None:
        async with self._sending:  # frames of several connections must not be mixed up
            await self._carrier.send(self._connection.take())

    async def _handle(self, event: spdy.Event) -> None:
        match event:
            case spdy.StreamOpened(stream, headers):
                self._opened(stream, headers.get("streamtype", ""), headers.get("requestid", ""),
                             headers.get("port", ""))  # fmt: skip
            case spdy.Data(stream, payload):
                if (pair := self._by_data.get(stream)) is not None:
                    await self._put(pair, payload)
            case spdy.Finished(stream):
                if (pair := self._by_data.get(stream)) is not None:
                    await self._put(pair, b"")
            case spdy.Reset(stream):
                if (pair := self._by_data.get(stream)) is not None:
                    self._end(pair)
            case _:
                pass

    async def _put(self, pair: _Pair, payload: bytes) -> None:
        """Queue *payload*; a connection that ends meanwhile takes nothing more.

        One whose second stream has not been opened is given up when the queue is full: waiting for room would keep us from hearing of
        that stream.
        """
        if not pair.queue.full():
            pair.queue.put_nowait(payload)
            return
        if pair.task is None:
            self._end(pair)
            return
        putting = asyncio.create_task(pair.queue.put(payload))
        await asyncio.wait({putting, pair.task}, return_when=asyncio.FIRST_COMPLETED)
        putting.cancel()

    def _opened(self, stream: int, kind: str, request: str, port: str) -> None:
        pair = self._pairs.setdefault(request, _Pair(request))
        taken = {"error": pair.error, "data": pair.data}.get(kind)
        if taken or taken is None or (pair.port and pair.port != port):
            self._connection.reset(stream, spdy.Status.PROTOCOL_ERROR)
            return
        pair.port = port
        self._connection.reply(stream)
        if kind == "error":
            pair.error = stream
        else:
            pair.data = stream
            self._by_data[stream] = pair
        if pair.error and pair.data:
            if pair.expiry is not None:
                pair.expiry.cancel()
            pair.task = asyncio.create_task(self._serve(pair))
        else:
            loop = asyncio.get_running_loop()
            pair.expiry = loop.call_later(CREATION, self._end, pair)

    def _end(self, pair: _Pair) -> None:
        if pair.expiry is not None:
            pair.expiry.cancel()
        if pair.task is not None:
            pair.task.cancel()  # it cleans up
            return
        for stream in (pair.error, pair.data):
            self._connection.reset(stream)
        self._forget(pair)

    def _forget(self, pair: _Pair) -> None:
        self._pairs.pop(pair.request, None)
        self._by_data.pop(pair.data, None)

    # -- one connection

    async def _serve(self, pair: _Pair) -> None:
        try:
            said = await self._forward(pair)
            self._connection.send(pair.error, said.encode(), fin=True)
            if said:
                self._connection.reset(pair.data)
            await self._flush()
        except ConnectionError:
            return  # the client has gone; `run` ends, too
        finally:
            self._connection.send(pair.error, b"", fin=True)  # the client waits for its end
            self._connection.reset(pair.data)
            self._forget(pair)
            with contextlib.suppress(ConnectionError):
                await self._flush()

    async def _forward(self, pair: _Pair) -> str:
        """Copy both ways until both are done; return what went wrong, "" for nothing."""
        port = int(pair.port) if pair.port.isascii() and pair.port.isdigit() else 0
        if not 0 < port < 1 << 16:
            return f'unable to parse "{pair.port}" as a port'
        try:
            sock = await self._connect(port)
        except MinipodError as e:
            return f"error forwarding port {port}: {e.message}"
        with contextlib.closing(sock):
            writing = asyncio.create_task(self._write(pair, sock))
            try:
                await self._read(pair, sock)
                # A peer that has sent everything may still listen; one that closed answers a write with an error.
                if self._connection.is_open(pair.data):
                    self._connection.send(pair.data, b"", fin=True)
                    await self._flush()
                await writing
            except OSError as e:
                return f"error forwarding port {port}: {(e.strerror or str(e)).lower()}"
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
        return ""

    async def _read(self, pair: _Pair, sock: sockets.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(sock, CHUNK):
            self._connection.send(pair.data, data)
            await self._flush()

    async def _write(self, pair: _Pair, sock: sockets.socket) -> None:
        loop = asyncio.get_running_loop()
        while data := await pair.queue.get():
            await loop.sock_sendall(sock, data)
        with contextlib.suppress(OSError):  # closed already
            sock.shutdown(sockets.SHUT_WR)
