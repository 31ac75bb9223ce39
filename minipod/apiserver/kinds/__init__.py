"""The kinds that the API serves, a few per file: what each is, its defaults and rules, its columns.

A new kind is one `Resource` in one of these files (or a file of its own) and its name in RESOURCES below. It says what is special about
the kind; verbs, tables, discovery, OpenAPI, selectors come by themselves. Where a kind has a pod template, `minipod.api.pod_template`
checks and completes it; with `subresources=(STATUS, SCALE)` it has these paths.
"""

from __future__ import annotations

from minipod.apiserver.kinds import (
    access,
    certificates,
    core,
    events,
    metrics,
    nodes,
    pods,
    read_only,
    reviews,
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
    *certificates.RESOURCES,
    *reviews.RESOURCES,
    *metrics.RESOURCES,
    *read_only.RESOURCES,
)


def registry() -> Registry:
    """Return a registry of all of them."""
    return Registry(RESOURCES)
