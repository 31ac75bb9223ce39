"""What is there from the first start on, and stays: the system's namespaces and priority classes.

Sources: pkg/registry/scheduling/rest, pkg/controlplane/controller/systemnamespaces. The default roles are made by `auth.roles`.
"""

from __future__ import annotations

import contextlib

from minipod.api.store import Object, Store
from minipod.errors import AlreadyExists

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
IMMORTAL_NAMESPACES = NAMESPACES[:3]  # the admission plugin NamespaceLifecycle's
PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_ABOUT = {
    "system-cluster-critical": "For pods that the cluster needs and that may move to another node.",
    "system-node-critical": "For pods that their node needs, and that may not move.",
}


async def make(store: Store) -> None:
    """Make what is missing."""
    for name in NAMESPACES:
        await _create(store, "namespaces", _namespace(name))
    for name in PRIORITIES:
        await _create(store, "priorityclasses", _priority_class(name))


async def _create(store: Store, resource: str, obj: Object) -> None:
    with contextlib.suppress(AlreadyExists):
        await store.create(resource, "", obj)


def _namespace(name: str) -> Object:
    return {
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
    }  # fmt: skip


def _priority_class(name: str) -> Object:
    return {
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
        "value": PRIORITIES[name], "preemptionPolicy": "PreemptLowerPriority", "description": _ABOUT[name],
    }  # fmt: skip
