"""Port-forward over the numbered channels of a WebSocket: one connection for each port that the query names, none opened later.

    channel 2n      data of the n-th port, both ways
    channel 2n + 1  a sentence when it failed

The first message on each channel is the port, 2 bytes, little-endian. These sub-protocols have no half-close: the connection ends when the
pod has ended every one of its own, or when the client goes. One connection's full buffer holds the others up, as in `portforward`.
Source: kubelet cri/streaming/portforward/websocket.go; the Python client speaks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket as sockets
from collections.abc import Sequence
from typing import Final

from minipod.errors import FailedPrecondition, MinipodError
from minipod.streaming.carriers import Channels
from minipod.streaming.portforward import CHUNK, QUEUE, Connect
from minipod.streaming.presence import Presence

PROTOCOLS: Final = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
PORTS_MAX: Final = 64  # two channels each; a channel's number is one byte


def ports_of(values: Sequence[str]) -> list[int]:
    """Return the ports that the values of `ports` name, each one or several with commas. Raises FailedPrecondition."""
    words = [word.strip() for text in values for word in text.split(",")]
    for word in words:
        if not (word.isascii() and word.isdigit() and 0 < int(word) < 1 << 16):
            raise FailedPrecondition(f'unable to parse "{word}" as a port')
    if not 0 < len(words) <= PORTS_MAX:
        raise FailedPrecondition('query parameter "ports" is required', hint="?ports=8080")
    return [int(word) for word in words]


class PortForwardChannels:
    """Serves one client until it goes, or until the pod has ended every connection."""

    def __init__(self, channels: Channels, connect: Connect, ports: list[int]) -> None:
        self._channels = channels
        self._connect = connect
        self._ports = ports
        self._queues: list[asyncio.Queue[bytes]] = [asyncio.Queue(QUEUE) for _ in ports]
        self._serving: list[asyncio.Task[None]] = []

    async def run(self, presence: Presence) -> None:
        """Return when it is over; every connection is closed then."""
        self._serving = [asyncio.create_task(self._serve(n)) for n in range(len(self._ports))]
        incoming = asyncio.create_task(presence.hold(self._incoming(), self._channels.ping))
        ended = asyncio.create_task(self._all_ended())
        try:
            await asyncio.wait({incoming, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = (*self._serving, incoming, ended)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._channels.close()

    async def _all_ended(self) -> None:
        await asyncio.wait(self._serving)

    async def _incoming(self) -> None:
        async for channel, payload in self._channels.incoming():
            number, is_error = divmod(channel, 2)
            if payload and not is_error and 0 <= number < len(self._ports):
                await self._put(number, payload)

    async def _put(self, number: int, payload: bytes) -> None:
        """Queue *payload*; a connection that ends meanwhile takes nothing more."""
        putting = asyncio.create_task(self._queues[number].put(payload))
        try:
            await asyncio.wait(
                {putting, self._serving[number]}, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            putting.cancel()

    async def _serve(self, number: int) -> None:
        port = self._ports[number]
        with contextlib.suppress(ConnectionError):  # of the client: `run` ends, too
            for channel in (2 * number, 2 * number + 1):
                await self._channels.send(channel, port.to_bytes(2, "little"))
            if said := await self._forward(number, port):
                await self._channels.send(
                    2 * number + 1, f"error forwarding port {port}: {said}".encode()
                )

    async def _forward(self, number: int, port: int) -> str:
        """Copy both ways until the pod has ended it; return what went wrong, "" for nothing."""
        try:
            sock = await self._connect(port)
        except MinipodError as e:
            return e.message
        loop = asyncio.get_running_loop()
        with contextlib.closing(sock):
            writing = asyncio.create_task(self._write(number, sock))
            try:
                while data := await loop.sock_recv(sock, CHUNK):
                    await self._channels.send(2 * number, data)
            except OSError as e:
                return (e.strerror or str(e)).lower()
            finally:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
        return ""

    async def _write(self, number: int, sock: sockets.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await loop.sock_sendall(sock, await self._queues[number].get())
