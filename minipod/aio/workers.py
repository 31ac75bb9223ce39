"""Keyed workers: one task per key, the newest message wins, nothing is handled twice at a time.

The task of a key lives only while there is something to handle; a message that arrives meanwhile
replaces the one that waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from minipod.aio.tasks import Background

K = TypeVar("K", bound=Hashable)
M = TypeVar("M")


class KeyedWorkers(Generic[K, M]):
    """Handle the newest message of each key, keys in parallel, one key in order."""

    def __init__(self, handle: Callable[[K, M], Awaitable[None]], *, name: str) -> None:
        self._handle = handle
        self._name = name
        self._waiting: dict[K, M] = {}
        self._running: set[K] = set()
        self._background = Background()

    def put(self, key: K, message: M) -> None:
        """Hand *message* over; it replaces a waiting one."""
        self._waiting[key] = message
        if key not in self._running:
            self._running.add(key)
            self._background.spawn(self._work(key), name=f"{self._name}:{key}")

    def drop(self, key: K) -> None:
        """Forget what waits for *key*."""
        self._waiting.pop(key, None)

    async def close(self) -> None:
        """Cancel what runs."""
        await self._background.close()

    async def _work(self, key: K) -> None:
        try:
            while (message := self._waiting.pop(key, None)) is not None:
                await self._handle(key, message)
                await asyncio.sleep(0)  # one round of the loop gathers what belongs together
        finally:
            self._running.discard(key)
