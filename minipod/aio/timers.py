"""An alarm: one callback at one due time, in the terms of an injected wall clock.

Due times come from rules that know seconds since the epoch (backoff expiry, active deadline); the
loop knows only delays. The clock is asked once, when the alarm is set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Clock = Callable[[], float]  # seconds since the epoch


class Alarm:
    """At most one pending call of *callback*; setting it anew replaces the old time."""

    def __init__(self, clock: Clock, callback: Callable[[], object]) -> None:
        self._clock = clock
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self.due: float | None = None

    def set(self, due: float | None) -> None:
        """Call at *due*; None cancels."""
        self.cancel()
        if due is None:
            return
        self.due = due
        delay = max(0.0, due - self._clock())
        self._handle = asyncio.get_running_loop().call_later(delay, self._fire)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self.due = None

    def _fire(self) -> None:
        self._handle = self.due = None
        self._callback()
