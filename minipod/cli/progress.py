"""The progress of layers on a terminal: one line each, drawn over; without a terminal a line for each change of state."""

from __future__ import annotations

import os
import sys
import time

BAR = 30  # characters
REDRAW = 0.1  # seconds between two drawings, unless a state changed


class Lines:
    """Use it as a context manager; call `show` for each piece of news."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._tty = sys.stderr.isatty()
        self._layers: dict[str, tuple[str, int, int]] = {}  # digest -> state, done, total
        self._drawn = 0  # lines on the screen
        self._drawn_at = 0.0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tty and self._layers and not self._quiet:
            self._draw()

    def show(self, digest: str, state: str, done: int, total: int) -> None:
        """Take news of one layer in."""
        changed = self._layers.get(digest, ("",))[0] != state
        self._layers[digest] = (state, done, total)
        if self._quiet:
            return
        if self._tty:
            if changed or time.monotonic() - self._drawn_at >= REDRAW:
                self._draw()
        elif changed:
            print(f"{_short(digest)}: {state}", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
        # What does not fit on the screen can't be drawn over: the end of the list is shown.
        shown = list(self._layers.items())[-max(1, rows - 1) :]
        text = f"\x1b[{self._drawn}A" if self._drawn else ""
        for digest, (state, done, total) in shown:
            text += f"\r\x1b[K{_line(digest, state, done, total)[: columns - 1]}\n"
        sys.stderr.write(text)
        sys.stderr.flush()
        self._drawn, self._drawn_at = len(shown), time.monotonic()


def _line(digest: str, state: str, done: int, total: int) -> str:
    if done >= total or not done:
        return f"{_short(digest)}: {state}"
    filled = BAR * done // total
    bar = "=" * filled + ">" + " " * (BAR - filled)
    return f"{_short(digest)}: {state:<12} [{bar}] {_size(done)}/{_size(total)}"


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g}{unit}"
        count /= 1000
    return f"{count:.4g}GB"
