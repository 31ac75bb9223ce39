"""Tables (meta.k8s.io/v1): the columns that `kubectl get` prints, computed by the server; and how it writes ages.

The columns of each kind are in `apiserver.kinds`: `printer(NAME, Column("Type", "type"), AGE)`, or a `Printer` whose row computes several
cells in one walk. Cells are strings and integers, as Kubernetes' own.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from minipod.apiserver.resources import Printer, Resource

logger = logging.getLogger(__name__)

Object = dict[str, Any]


def table(
    resource: Resource,
    items: Iterable[Object],
    metadata: Object,
    *,
    include: str = "",
    version: str = "v1",
) -> Object:
    """Return a Table of *items*; *include* is the request's includeObject: None, Metadata (the default) or Object."""
    printer = resource.printer or GENERIC
    return {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": metadata,
        "columnDefinitions": [
            {"name": name, "type": "integer" if name in INTEGERS else "string",
             "format": "name" if name == "Name" else "", "description": "", "priority": priority}
            for name, priority in printer.columns
        ],
        "rows": [_row(printer, item, include, version) for item in items],
    }  # fmt: skip


def _row(printer: Printer, item: Object, include: str, version: str) -> Object:
    row: Object = {"cells": _cells(printer, item)}
    if include == "Object":
        row["object"] = item
    elif include != "None":
        row["object"] = partial(item, version)
    return row


def _cells(printer: Printer, item: Object) -> list[Any]:
    """Return the cells of an object; one that lacks what its columns show is shown all the same."""
    try:
        return printer.row(item)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        logger.debug("no row for %s", item["metadata"], exc_info=True)
        return [item["metadata"]["name"], *("<unknown>" for _ in printer.columns[1:])]


def partial(item: Object, version: str = "v1") -> Object:
    """Return the PartialObjectMetadata of an object."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": item["metadata"],
    }


def age(since: str | None, now: datetime | None = None) -> str:
    """Return how long ago, as kubectl's duration.HumanDuration writes it."""
    if not since:
        return "<unknown>"
    then = datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", since))
    return human((now or datetime.now(UTC)).timestamp() - then.timestamp())


def human(seconds: float) -> str:  # noqa: PLR0911 one return for each unit
    """HumanDuration: two units at most, fewer the longer it is."""
    s = max(0, int(seconds))
    m, h, d = s // 60, s // 3600, s // 86400
    if s < 120:
        return f"{s}s"
    if m < 10:
        return f"{m}m{s % 60}s" if s % 60 else f"{m}m"
    if m < 180:
        return f"{m}m"
    if h < 8:
        return f"{h}h{m % 60}m" if m % 60 else f"{h}h"
    if h < 48:
        return f"{h}h"
    if d < 8:
        return f"{d}d{h % 24}h" if h % 24 else f"{d}d"
    return f"{d}d" if d < 730 else f"{d // 365}y{d % 365}d"


def created(item: Object) -> str:
    """Return the age of an object."""
    return age(item["metadata"].get("creationTimestamp"))


# -- columns

Cell = Callable[[Object], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column and the cell of one object: computed, or the field at a path ("spec.volumeName")."""

    name: str
    cell: Cell | str
    absent: str = ""  # what a field that is not there is shown as
    wide: bool = False  # only with -o wide

    def of(self, item: Object) -> Any:
        return self.cell(item) if callable(self.cell) else field(item, self.cell) or self.absent


def field(item: Object, path: str) -> Any:
    """Return the field at *path* as a table shows it, "" where there is none."""
    value: Any = item
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


def printer(*columns: Column) -> Printer:
    """Return the printer of these columns."""
    return Printer(
        columns=tuple((c.name, int(c.wide)) for c in columns),
        row=lambda item: [c.of(item) for c in columns],
    )


INTEGERS = frozenset(("Value",))
NAME, AGE = Column("Name", "metadata.name"), Column("Age", created)
CREATED = Column("Created At", "metadata.creationTimestamp")
GENERIC = printer(NAME, AGE)
