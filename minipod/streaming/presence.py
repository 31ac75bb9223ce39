"""Whether a client is still there, known without reading what it sends.

A server that pushes back does not read while nobody takes what came, so it does not hear its client go; nor does one that only waits for
something to say. The kernel does: EPOLLRDHUP tells that the peer has shut down, whatever still waits to be read.

A peer that died with bytes that did not fit into our window can't tell even the kernel. What we send reaches its machine, though, and is
answered by a reset: so whoever waits says something every PING seconds.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from minipod.aio.fds import resolve

if TYPE_CHECKING:
    from aiohttp import web

DELIVERY: Final = 1.0  # seconds for what a client had sent before it went
PING: Final = 15.0  # seconds

Ping = Callable[[], Awaitable[None]]  # raises ConnectionError


class Presence:
    """A client's connection."""

    def __init__(self, request: web.Request) -> None:
        self._request = request

    async def hold(self, work: Coroutine[Any, Any, None], ping: Ping | None = None) -> None:
        """Run *work* to its end, or until the client has gone: it is cancelled then. Raises what *work* raises."""
        working = asyncio.create_task(work)
        watching = [asyncio.create_task(self._lost())]
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


async def _keep_saying(ping: Ping) -> None:
    try:
        while True:
            await asyncio.sleep(PING)
            await ping()
    except ConnectionError:
        return
