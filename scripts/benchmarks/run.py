"""Alternate the sides of a row: one run of each, then again in the other order, so that a busy moment hits all of them."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any

from benchmarks.bench import Bench
from benchmarks.row import Missing, Once, Row


def measure(row: Row, bench: Bench, runs: int) -> dict[str, Any]:
    """Return the samples: {"sides": {side: [{figure: value}]}, "missing": {side: why}}."""
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        ways: dict[str, Once] = {}
        for name, side in row.sides.items():
            try:
                ways[name] = stack.enter_context(side(bench))
            except Missing as why:
                missing[name] = str(why)
        for once in ways.values():
            once()  # caches, lazy imports, first directories
        samples: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        order = list(ways)
        for _ in range(runs):
            for name in order:
                samples[name].append(ways[name]())
            order.reverse()
            if sys.stderr.isatty():
                print(".", end="", file=sys.stderr, flush=True)
    date = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return {"date": date, "runs": runs, "sides": samples, "missing": missing}
