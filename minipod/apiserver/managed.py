"""metadata.managedFields and server-side apply (not there yet: apply is refused, writes record nothing)."""

from __future__ import annotations

from typing import Any

from minipod.apiserver.resources import Resource
from minipod.apiserver.status import ApiError

Object = dict[str, Any]


def created(obj: Object, manager: str, resource: Resource) -> None:
    """Record a create."""


def updated(current: Object, wanted: Object, manager: str, resource: Resource, part: str) -> None:
    """Record an update."""


def applied_new(obj: Object, manager: str, resource: Resource) -> None:
    """Record an apply that creates."""
    raise ApiError(415, "server-side apply is not supported yet")


def applied(
    current: Object, wanted: Object, manager: str, resource: Resource, part: str, *, force: bool
) -> Object:
    """Return *current* with an applied configuration merged into it."""
    raise ApiError(415, "server-side apply is not supported yet")
