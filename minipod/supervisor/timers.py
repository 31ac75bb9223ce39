"""Deadlines of a selector loop: a heap, so that the next one costs nothing to look at."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True, order=True)
class Timer:
    """One call at monotonic second *due*; `cancel` forgets it."""

    due: float
    number: int  # ties keep their order
    callback: Callable[[], None] | None = field(compare=False)

    def cancel(self) -> None:
        self.callback = None


class Timers:
    """Timers of one loop: `timeout` for its select, `run_due` after it."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._count = 0

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call once, *seconds* from now."""
        self._count += 1
        timer = Timer(time.monotonic() + seconds, self._count, callback)
        heapq.heappush(self._heap, timer)
        return timer

    def timeout(self) -> float | None:
        """Return the seconds until the next timer; None when there is none."""
        while self._heap and self._heap[0].callback is None:
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0].due - time.monotonic()) if self._heap else None

    def run_due(self) -> None:
        """Call what is due."""
        while self._heap and self._heap[0].due <= time.monotonic():
            callback = heapq.heappop(self._heap).callback
            if callback is not None:
                callback()
