"""The shape of a row. A module in `rows/` has one `ROW`; a side is a context manager that yields the way to do one run.

A new row is one small file:

    @contextmanager
    def minipod(bench: Bench) -> Iterator[Once]:
        node = bench.node()                      # set up what is not measured
        yield lambda: {"what": milliseconds()}   # one run: a value for each figure
                                                 # take everything away
    ROW = Row(title=..., figures=(Figure("what", aim=10),), sides={"minipod": minipod})
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.bench import Bench

Once = Callable[[], dict[str, float]]
Side = Callable[["Bench"], AbstractContextManager[Once]]


class Missing(Exception):
    """A side cannot run on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of each run. *aim* is what we want minipod's median to be."""

    name: str
    unit: str = "ms"
    aim: float | None = None
    quoted: str = ""  # measured elsewhere, of a peer that this machine can't have


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Figures that one set-up gives, and who is measured; minipod comes first, ratios are to it."""

    title: str
    figures: tuple[Figure, ...]
    sides: dict[str, Side]
    runs: int = 20
    warm: bool = True  # run each side once before, unmeasured; False for rows that take long and warm up by themselves
    note: str = ""  # what the reader must know to compare
