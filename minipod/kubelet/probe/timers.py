"""One heap of due times for every probe and every time limit; the loop holds a single timer for all of them.

Due times are the loop's (monotonic) seconds. Whoever repeats adds its period to the *due* time, not to the present, so nothing
drifts. A cancelled entry stays in the heap until it is due or until half of the heap is such entries.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

_COMPACT_FROM = 256  # entries; below, the cancelled ones cost nothing worth a sweep

_AT_ONCE = 100  # calls in one turn of the loop: then sockets have theirs

Callback = Callable[[], None]


class Timer:
    """One due call. *callback* is None once it was made or cancelled."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callback) -> None:
        self.due = due
        self.callback: Callback | None = callback


class Timers:
    """The heap. Use it from one loop's thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._cancelled = 0
        self._handle: asyncio.TimerHandle | None = None
        self._armed = float("inf")
        self._firing = False

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, due: float, callback: Callback) -> Timer:
        """Call *callback* at *due*, or at once when that is over; never from within this call."""
        timer = Timer(due, callback)
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, timer))
        if due < self._armed and not self._firing:
            self._arm(due)
        return timer

    def cancel(self, timer: Timer) -> None:
        """Forget the call. Idempotent."""
        if timer.callback is None:
            return
        timer.callback = None
        self._cancelled += 1
        if self._cancelled > _COMPACT_FROM and self._cancelled * 2 > len(self._heap):
            # In place: `_fire` holds the same list.
            self._heap[:] = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def close(self) -> None:
        """Call nobody any more."""
        if self._handle is not None:
            self._handle.cancel()
        self._heap.clear()

    def _arm(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed = due
        self._handle = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        heap, time = self._heap, self._loop.time
        self._firing = True
        try:
            limit = time()
            for _ in range(_AT_ONCE):
                if not heap or heap[0][0] > limit:
                    break
                timer = heapq.heappop(heap)[2]
                callback = timer.callback
                if callback is None:
                    self._cancelled -= 1
                    continue
                timer.callback = None
                callback()
        finally:
            self._firing = False
            self._handle, self._armed = None, float("inf")
            if heap:
                self._arm(heap[0][0])
