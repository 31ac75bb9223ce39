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
import contextlib
import os
import select
import socket as sockets
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from minipod.linux.tcp import TcpInfo, tcp_info

if TYPE_CHECKING:
    from aiohttp import web

DELIVERY: Final = 1.0  # seconds for what a client had sent before it went
BRIEF: Final = 0.05  # seconds in which most commands are over: until then nobody looks
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
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(None)
        try:
            async with limit:
                watch = _Watch(
                    self._request.transport, ping, lambda: limit.reschedule(loop.time() + DELIVERY)
                )
                try:
                    await work
                finally:
                    await watch.close()
        except TimeoutError:
            if not limit.expired():
                raise


class _Watch:
    """Calls *gone*, once, when the client is there no more. `close` it in any case.

    Each exec has one, and most are over soon. It takes a timer, no task; a descriptor and a reader of the loop after BRIEF.
    """

    def __init__(
        self, transport: asyncio.Transport | None, ping: Ping | None, gone: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ping = ping
        self._gone = gone
        self._told = False
        self._saying: asyncio.Task[None] | None = None
        self._stack = contextlib.ExitStack()
        if transport is None:
            self._lost()
            return
        self._transport = transport
        self._socket: sockets.socket = transport.get_extra_info("socket")
        self._remote = self._socket.family != sockets.AF_UNIX  # a local peer's machine can't vanish
        self._timer = self._loop.call_later(BRIEF, self._begin)
        self._stack.callback(self._stop_timer)

    def _begin(self) -> None:
        """Watch the connection; who has gone before is found at once."""
        try:
            self._register()
        except OSError:  # no descriptor is left to watch it with, or it is closed
            self._lost()

    def _register(self) -> None:
        if self._remote:
            for option in KEEPALIVE:
                self._socket.setsockopt(*option)
        # A descriptor of our own: the transport may close its one before we have heard anything.
        own = os.dup(self._socket.fileno())
        self._stack.callback(os.close, own)
        epoll = self._stack.enter_context(select.epoll())
        epoll.register(own, select.EPOLLRDHUP)
        self._loop.add_reader(epoll.fileno(), self._lost)
        self._stack.callback(self._loop.remove_reader, epoll.fileno())
        self._timer = self._loop.call_later(PING, self._look)

    def _stop_timer(self) -> None:
        self._timer.cancel()

    def _lost(self) -> None:
        self._stack.close()
        if not self._told:
            self._told = True
            self._gone()

    def _look(self) -> None:
        """Give up a connection whose other machine is gone, and ask again that one."""
        if self._remote and (self._transport.is_closing() or is_silent(tcp_info(self._socket))):
            self._transport.abort()  # whoever waits to send something hears of it
            self._lost()
            return
        self._timer = self._loop.call_later(PING, self._look)
        if self._ping is not None and (self._saying is None or self._saying.done()):
            self._saying = asyncio.create_task(self._say(self._ping))

    async def _say(self, ping: Ping) -> None:
        try:
            await ping()
        except ConnectionError:
            self._lost()

    async def close(self) -> None:
        self._stack.close()
        if self._saying is not None:
            self._saying.cancel()
            await asyncio.gather(self._saying, return_exceptions=True)


def is_silent(info: TcpInfo) -> bool:
    """Whether a peer acknowledges nothing, though we sent again, or asked."""
    limit = SILENCE if info.snd_wnd else SILENCE_FULL
    return max(info.retransmits, info.probes) >= 2 and info.last_ack_recv >= limit
