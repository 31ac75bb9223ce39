"""Imports that leave `inspect` for later: with it come `ast` and `dis`, 0.9 MB and 6 ms.

dataclasses has one use for it, the text `Name(field: type)` for classes without a docstring, which nobody reads here. asyncio asks it
about callbacks that are neither functions nor coroutines, and for texts of errors. What is imported inside `later()` has a stand-in,
which imports the real module when it is looked into.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

NAME = "inspect"


class _StandIn(ModuleType):
    """Has what the real module has."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # the import system asks
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(importlib.import_module(NAME), name)


@contextmanager
def later() -> Iterator[ModuleType]:
    """Modules that are imported here have a stand-in for `inspect`. Yields it."""
    stand_in = _StandIn(NAME)
    before = sys.modules.setdefault(NAME, stand_in)
    try:
        yield stand_in
    finally:
        if before is stand_in and sys.modules.get(NAME) is stand_in:
            del sys.modules[NAME]


def import_dataclasses() -> None:
    """Import it, where it is not there yet, without `inspect`, and without the text."""
    with later() as inspect:
        import dataclasses  # noqa: F401
    inspect.signature = lambda _: ""  # type: ignore[attr-defined]
