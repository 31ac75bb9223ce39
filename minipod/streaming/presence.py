"""Whether a client is still there, known without reading what it sends.

A server that pushes back does not read while nobody takes what came, so it does not hear its client go; nor does one that only waits for
something to say. The kernel does: EPOLLRDHUP tells that the peer has shut down, whatever still waits to be read.

A peer that died with bytes that did not fit into our window can't tell even the kernel. What we send reaches its machine, though, and is
answered by a reset: so whoever waits says something every PING seconds.

A machine that is gone, or a line that is cut, answers nothing, and the kernel would go on sending for a quarter of an hour
(tcp_retries2). Where we have nothing to send, its keepalive asks; where we have, TCP_INFO tells that nothing is acknowledged any more. So
either is found within a minute. TCP_USER_TIMEOUT would be shorter to write down, but it also ends whoever is there and only slow (tcp(7)).
"""

from __future__ import annotations

import asyncio
import os
import select
import socket as sockets
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from minipod.aio.fds import resolve
from minipod.linux.tcp import TcpInfo, tcp_info

if TYPE_CHECKING:
    from aiohttp import web

DELIVERY: Final = 1.0  # seconds for what a client had sent before it went
PING: Final = 15.0  # seconds
SILENCE: Final = (
    30_000  # milliseconds in which a peer's machine acknowledges nothing of what we sent
)
SILENCE_FULL: Final = 250_000  # and when its window is closed: the kernel probes that every two minutes at least (TCP_RTO_MAX)
KEEPALIVE: Final = (
    (sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1),
    (sockets.IPPROTO_TCP, sockets.TCP_KEEPIDLE, 15),  # seconds
    (sockets.IPPROTO_TCP, sockets.TCP_KEEPINTVL, 10),  # seconds
    (sockets.IPPROTO_TCP, sockets.TCP_KEEPCNT, 3),
)

Ping = Callable[[], Awaitable[None]]  # raises ConnectionError


class Presence:
    """A client's connection."""

    def __init__(self, request: web.Request) -> None:
        self._request = request

    async def hold(self, work: Coroutine[Any, Any, None], ping: Ping | None = None) -> None:
        """Run *work* to its end, or until the client has gone: it is cancelled then. Raises what *work* raises."""
        working = asyncio.create_task(work)
        watching = [asyncio.create_task(self._lost()), asyncio.create_task(self._silent())]
        if ping is not None:
            watching.append(asyncio.create_task(_keep_saying(ping)))
        try:
            await asyncio.wait({working, *watching}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({working}, timeout=DELIVERY)
            if working.done():
                working.result()
        finally:
            for task in (working, *watching):
                task.cancel()
            await asyncio.gather(working, *watching, return_exceptions=True)

    async def _silent(self) -> None:
        """Return when the peer's machine answers no more; the connection is given up then. A local peer can't vanish so."""
        transport = self._request.transport
        if transport is None:
            return
        socket: sockets.socket = transport.get_extra_info("socket")
        if socket.family == sockets.AF_UNIX:
            await asyncio.Event().wait()
        for option in KEEPALIVE:
            socket.setsockopt(*option)
        while True:
            await asyncio.sleep(PING)
            if transport.is_closing() or is_silent(tcp_info(socket)):
                transport.abort()  # whoever waits to send something hears of it
                return

    async def _lost(self) -> None:
        """Return when the peer has shut its side down."""
        transport = self._request.transport
        if transport is None:
            return
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[None] = loop.create_future()
        # A descriptor of our own: the transport may close its one before we have heard anything.
        own = os.dup(transport.get_extra_info("socket").fileno())
        epoll = select.epoll()
        try:
            epoll.register(own, select.EPOLLRDHUP)
            loop.add_reader(epoll.fileno(), resolve, lost)
            await lost
        finally:
            loop.remove_reader(epoll.fileno())
            epoll.close()
            os.close(own)


def is_silent(info: TcpInfo) -> bool:
    """Whether a peer acknowledges nothing, though we sent again, or asked."""
    limit = SILENCE if info.snd_wnd else SILENCE_FULL
    return max(info.retransmits, info.probes) >= 2 and info.last_ack_recv >= limit


async def _keep_saying(ping: Ping) -> None:
    try:
        while True:
            await asyncio.sleep(PING)
            await ping()
    except ConnectionError:
        return
