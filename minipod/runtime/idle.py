"""What a node does while nobody asks it anything, for those who will: one piece after another, each whole, until somebody asks.

Idle is a node that was asked nothing for some time: no piece begins in a pod's way, and a burst finds what there is and makes the rest
itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from minipod.aio.tasks import Background
from minipod.errors import MinipodError

logger = logging.getLogger(__name__)

QUIET: Final = 0.03  # seconds without a request until a node counts as idle

Work = Callable[[], Awaitable[bool]]


class Idle:
    """Calls each of its *works* for a piece until it returns that nothing is left to do. Nothing happens before `open`."""

    def __init__(self, *works: Work) -> None:
        self._works = [*works]
        self._open = False
        self._requests = 0  # that the runtime works on
        self._asked = 0  # how many there have been
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = Background()
        self._working = False

    def add(self, work: Work) -> None:
        """Call *work*, too, behind the others."""
        self._works.append(work)

    def open(self) -> None:
        """Begin, now and whenever the node is idle."""
        self._open = True
        self._wait()

    async def close(self) -> None:
        """Begin nothing more, and end what has begun. Idempotent."""
        self._open = False
        self._cancel()
        await self._tasks.close()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Begin nothing meanwhile; what has begun is finished."""
        self._requests += 1
        self._asked += 1
        self._cancel()
        try:
            yield
        finally:
            self._requests -= 1
            self._wait()

    def _wait(self) -> None:
        if self._open and not self._requests and not self._working and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(QUIET, self._begin)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        self._timer = None
        self._working = True
        self._tasks.spawn(self._work(), name="idle")

    async def _work(self) -> None:
        asked = self._asked
        try:
            for work in self._works:
                while self._asked == asked and await self._piece(work):
                    pass
        finally:
            self._working = False
        if self._asked != asked:
            self._wait()  # there may be more to do, the next time

    async def _piece(self, work: Work) -> bool:
        try:
            return await work()
        except (OSError, MinipodError) as error:
            # Who asks makes it, or is told; the next idle moment tries again.
            logger.warning("nothing can be prepared: %s", error)
            return False
