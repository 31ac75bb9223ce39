"""A flag that tasks wait for: asyncio.Event without its queue.

An Event makes a deque of 600 bytes for waiters that may never come; each pod has some, and nearly always nobody or one waits.
"""

from __future__ import annotations

import asyncio


class Flag:
    """The part of asyncio.Event that we use, in the terms of that class. Not thread-safe."""

    __slots__ = ("_is_set", "_waiters")

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: tuple[asyncio.Future[None], ...] = ()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        """Set it and wake all that wait."""
        self._is_set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        """Return when it is set; who was woken returns, also if it was cleared before the task ran."""
        if self._is_set:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters += (waiter,)
        try:
            await waiter
        finally:
            self._waiters = tuple(w for w in self._waiters if w is not waiter)
