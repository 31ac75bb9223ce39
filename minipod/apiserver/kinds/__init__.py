"""The kinds that the API serves, a few per file: what each is, its defaults and rules, its columns.

A new kind is one `Resource` in one of these files (or a file of its own) and its name in RESOURCES below.
"""

from __future__ import annotations

from minipod.apiserver.kinds import (
    access,
    core,
    events,
    extensions,
    metrics,
    nodes,
    pods,
    reviews,
    services,
    storage,
)
from minipod.apiserver.resources import Registry, Resource

RESOURCES: tuple[Resource, ...] = (
    *pods.RESOURCES,
    *core.RESOURCES,
    *nodes.RESOURCES,
    *events.RESOURCES,
    *storage.RESOURCES,
    *access.RESOURCES,
    *reviews.RESOURCES,
    *services.RESOURCES,
    *metrics.RESOURCES,
    *extensions.RESOURCES,
)


def registry() -> Registry:
    """Return a registry of all of them."""
    return Registry(RESOURCES)
