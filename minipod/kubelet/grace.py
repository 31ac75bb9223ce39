"""The grace period of a stop under way: when it ends, and that it may only get shorter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any


class Grace:
    """Counts down on the loop's clock; a second delete with less shortens it."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + seconds
        self._over = asyncio.Event()
        self._timer = self._loop.call_at(self._ends_at, self._over.set)

    def left(self) -> float:
        """Seconds until it ends, never below zero."""
        return max(0.0, self._ends_at - self._loop.time())

    def shorten(self, seconds: float) -> bool:
        """End it in *seconds*, unless it ends earlier anyway; whether that changed anything."""
        ends_at = self._loop.time() + seconds
        if ends_at >= self._ends_at:
            return False
        self._timer.cancel()
        self._ends_at = ends_at
        self._timer = self._loop.call_at(ends_at, self._over.set)
        return True

    async def wait_for(self, what: Awaitable[Any]) -> bool:
        """Wait for *what* to its end (True), or cancel it when the period ends (False)."""
        task = asyncio.ensure_future(what)
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((task, over), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return True
            return False
        finally:
            for one in (task, over):
                one.cancel()
            await asyncio.gather(task, over, return_exceptions=True)

    def close(self) -> None:
        self._timer.cancel()
