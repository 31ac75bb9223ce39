"""Services: only read as yet (none can be made), for clients that look for the cluster's own, such as `kubectl cluster-info`."""

from __future__ import annotations

from minipod.apiserver.resources import Resource

SERVICE = Resource(
    plural="services",
    kind="Service",
    type="core.v1.Service",
    short_names=("svc",),
    categories=("all",),
    verbs=("get", "list", "watch"),
)

RESOURCES = (SERVICE,)
