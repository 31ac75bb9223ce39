"""Imports that leave `inspect` for later: with it come `ast` and `dis`, 0.9 MB and 6 ms.

dataclasses has one use for it, the text `Name(field: type)` for classes without a docstring, which nobody reads here. asyncio asks it
about callbacks that are neither functions nor coroutines, and for texts of errors. What is imported inside `later()` has a stand-in,
which imports the real module when it is looked into. The same serves for other modules (`cli.lean_click`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class StandIn(ModuleType):
    """Has what it is given, and whatever else the real module *name* has."""

    def __init__(self, name: str, **given: object) -> None:
        super().__init__(name)
        vars(self).update(given)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # the import system asks
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(__import__(self.__name__), name)


@contextmanager
def later(*stand_ins: StandIn) -> Iterator[StandIn]:
    """Modules that are imported here have stand-ins, by default one for `inspect`, for what is not there yet. Yields the first."""
    stand_ins = stand_ins or (StandIn("inspect"),)
    for stand_in in stand_ins:
        sys.modules.setdefault(stand_in.__name__, stand_in)
    try:
        yield stand_ins[0]
    finally:
        for stand_in in stand_ins:
            if sys.modules.get(stand_in.__name__) is stand_in:
                del sys.modules[stand_in.__name__]


def import_dataclasses() -> None:
    """Import it, where it is not there yet, without `inspect`, and without the text."""
    with later() as inspect:
        import dataclasses  # noqa: F401
    inspect.signature = lambda _: ""  # type: ignore[attr-defined]
