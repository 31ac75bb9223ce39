"""Waiting together: one task for all who ask for the same thing, one writer at a time for each key.

Who joins late hears what was told before. When the last of the waiting is cancelled, so is the task.
Not for threads: all methods are of one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from minipod.image.registry.progress import LayerProgress, Tell

T = TypeVar("T")


class _Flight(Generic[T]):
    def __init__(self, start: Callable[[Tell], Coroutine[Any, Any, T]]) -> None:
        self.listeners: list[Tell] = []
        self._known: dict[str, LayerProgress] = {}  # the newest of each layer, in the image's order
        self.task = asyncio.ensure_future(start(self._tell))

    def join(self, listener: Tell) -> None:
        self.listeners.append(listener)
        for news in self._known.values():
            listener(news)

    def _tell(self, news: LayerProgress) -> None:
        self._known[news.digest] = news
        for listener in list(self.listeners):
            listener(news)


class Flights(Generic[T]):
    """The tasks that run now, by key."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def join(
        self, key: Hashable, start: Callable[[Tell], Coroutine[Any, Any, T]], listener: Tell
    ) -> T:
        """Return what the task of *key* returns, or raise what it raises; start it when there is none."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(start)
        flight.join(listener)
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.listeners.remove(listener)
            if (flight.task.done() or not flight.listeners) and self._flights.get(key) is flight:
                del self._flights[key]
            if not flight.listeners and not flight.task.done():
                flight.task.cancel()
                await asyncio.gather(flight.task, return_exceptions=True)


class Locks:
    """One lock for each key, as long as somebody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncIterator[None]:
        """Be the only one for *key*. Held across awaits on purpose: the others want the result."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = (lock, users - 1)
