"""Guarded tasks: named, and never lost when they fail.

A *root* task ends only by cancellation; anything else is an error of the program. A *background*
task may end; its exception is logged with the traceback, once, here: a task boundary.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from minipod.errors import Internal

if TYPE_CHECKING:
    from collections.abc import Coroutine

logger = logging.getLogger(__name__)


class Background:
    """Tasks that somebody started and nobody awaits; `close` cancels what is left."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, coro: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Start *coro*; hold a reference, log its failure."""
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Cancel and await what is left."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task %s failed", task.get_name(), exc_info=error)


async def run_root(*roots: tuple[str, Coroutine[Any, Any, None]]) -> None:
    """Run all (name, coroutine) pairs until cancelled; one that ends by itself ends all."""
    async with asyncio.TaskGroup() as group:
        for name, coro in roots:
            group.create_task(guard(name, coro), name=name)


async def guard(name: str, coro: Coroutine[Any, Any, None]) -> None:
    """Run a root task: its end is an error, so that a TaskGroup ends with it."""
    await coro
    raise Internal(f"root task {name} ended unexpectedly")
