"""Alternate the sides of a row: one run of each, then again in the other order, so that a busy moment hits all of them."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any

from benchmarks.bench import Bench
from benchmarks.row import Missing, Once, Row, Side

Samples = dict[str, list[dict[str, float]]]


def measure(row: Row, bench: Bench, runs: int) -> dict[str, Any]:
    """Return the samples: {"sides": {side: [{figure: value}]}, "missing": {side: why}}.

    A peer that fails is missing, with its error; what minipod raises is raised.
    """
    with ExitStack() as stack:
        sides = _Sides(bench, stack)
        for name, side in row.sides.items():
            sides.enter(name, side)
        if row.warm and not bench.quick:
            for name in list(sides.ways):
                sides.run(name)  # caches, lazy imports, first directories
        sides.samples = {name: [] for name in sides.ways}
        for number in range(runs):
            order = [name for name in row.sides if name in sides.ways]
            for name in reversed(order) if number % 2 else order:
                sides.run(name)
            if sys.stderr.isatty():
                print(".", end="", file=sys.stderr, flush=True)
    date = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return {"date": date, "runs": runs, "sides": sides.samples, "missing": sides.missing}


class _Sides:
    """Who takes part, with what was measured."""

    def __init__(self, bench: Bench, stack: ExitStack) -> None:
        self._bench = bench
        self._stack = stack
        self.ways: dict[str, Once] = {}
        self.samples: Samples = {}
        self.missing: dict[str, str] = {}

    def enter(self, name: str, side: Side) -> None:
        try:
            self.ways[name] = self._stack.enter_context(side(self._bench))
        except Missing as why:
            self.missing[name] = str(why)
        except Exception as e:
            self._failed(name, e)

    def run(self, name: str) -> None:
        try:
            figures = self.ways[name]()
        except Exception as e:
            self._failed(name, e)
        else:
            self.samples.setdefault(name, []).append(figures)

    def _failed(self, name: str, error: Exception) -> None:
        if name == "minipod":
            raise error
        self.ways.pop(name, None)
        self.samples.pop(name, None)
        lines = f"{type(error).__name__}: {error}".strip().splitlines()
        self.missing[name] = f"it failed: {lines[-1][:200]}"
