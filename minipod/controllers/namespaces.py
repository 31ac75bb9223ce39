"""Namespaces that are being deleted: everything in them is deleted, then the finalizer `kubernetes` goes, and with it the namespace
(pkg/controller/namespace/deletion/namespaced_resources_deleter.go).

Admission refuses new content meanwhile. What stays (a pod within its grace period, an object with finalizers) is named in the
namespace's conditions; the controller waits for its deletion, it does not ask again and again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

from minipod.api.meta import now
from minipod.api.store import Object, Store
from minipod.controllers.controller import Controller, Informers
from minipod.controllers.kinds import Kind, Kinds
from minipod.errors import NotFound

FINALIZER = "kubernetes"


def terminating(namespace: Object) -> bool | None:
    """Return True for a namespace that this controller has to empty; None for others, which are not remembered."""
    finalizers = namespace.get("spec", {}).get("finalizers") or []
    return (
        True if namespace["metadata"].get("deletionTimestamp") and FINALIZER in finalizers else None
    )


class NamespaceController(Controller[str]):
    """Keys are names of namespaces."""

    name = "namespaces"

    def __init__(self, store: Store, informers: Informers, kinds: Kinds) -> None:
        super().__init__()
        self._store = store
        self._kinds = kinds
        self._waits: dict[str, asyncio.Task[None]] = {}
        informers.of("namespaces", terminating).subscribe(
            lambda change: self.enqueue(change.key[1])
        )

    async def reconcile(self, key: str) -> None:
        try:
            namespace = await self._store.get("namespaces", "", key)
        except NotFound:
            return
        if not terminating(namespace):
            return
        for kind in self._namespaced():
            await self._delete_all(kind, key)
        left, version = await self._left(key)
        await self._tell(key, left)
        if left:
            self._wait(key, next(iter(left)), version)
            return
        done = [f for f in namespace["spec"]["finalizers"] if f != FINALIZER]
        await self._store.update(
            "namespaces", "", key, {"metadata": {}, "spec": {"finalizers": done}}, "finalize"
        )

    def _namespaced(self) -> Iterable[Kind]:
        """Pods first: what they use goes while they end."""
        return sorted((k for k in self._kinds if k.namespaced), key=lambda k: k.resource != "pods")

    async def _delete_all(self, kind: Kind, namespace: str) -> None:
        """Delete every object that is not being deleted yet."""
        objects, _ = await self._store.list(kind.resource, namespace)
        for obj in objects:
            metadata = obj["metadata"]
            if metadata.get("deletionTimestamp"):
                continue
            try:
                await self._store.delete(
                    kind.resource,
                    namespace,
                    metadata["name"],
                    grace_period=None,
                    uid=metadata["uid"],
                )
            except NotFound:
                continue

    async def _left(self, namespace: str) -> tuple[dict[str, list[Object]], int]:
        """Return the objects that are left, and the version at which the first kind of them was listed."""
        found: dict[str, list[Object]] = {}
        seen = 0
        for kind in self._namespaced():
            objects, version = await self._store.list(kind.resource, namespace)
            if objects:
                seen = seen or version
                found[kind.resource] = objects
        return found, seen

    def _wait(self, namespace: str, resource: str, version: int) -> None:
        """Enqueue the namespace when an object of *resource* is gone."""

        async def wait() -> None:
            async for event in self._store.watch(resource, namespace, version):
                if event.type == "DELETED":
                    break
            del self._waits[namespace]
            self.enqueue(namespace)

        if namespace not in self._waits:
            self._waits[namespace] = self.background.spawn(wait(), name=f"empty {namespace}")

    async def _tell(self, name: str, left: dict[str, list[Object]]) -> None:
        def change(namespace: Object) -> Object | None:
            status = namespace.get("status") or {}
            told = conditions(left, status.get("conditions") or [])
            if told == status.get("conditions") or not (left or status.get("conditions")):
                return None
            return {**namespace, "status": {**status, "phase": "Terminating", "conditions": told}}

        await self._store.mutate("namespaces", "", name, change, "status")


def conditions(left: dict[str, list[Object]], old: list[Object]) -> list[Object]:
    """Return the conditions that say what keeps a namespace (namespace_status.go: the same types, reasons and words)."""
    remaining = [
        f"{r}. has {len(objects)} resource instances" for r, objects in sorted(left.items())
    ]
    counted = Counter(
        f
        for objects in left.values()
        for o in objects
        for f in o["metadata"].get("finalizers") or []
    )
    finalizers = [f"{f} in {n} resource instances" for f, n in sorted(counted.items())]
    since = {c["type"]: (c["status"], c["lastTransitionTime"]) for c in old}

    def condition(
        kind: str, good: tuple[str, str], bad: tuple[str, str], words: list[str]
    ) -> dict[str, Any]:
        status = "True" if words else "False"
        reason, message = (bad[0], f"{bad[1]}: {', '.join(words)}") if words else good
        before = since.get(kind, ("", ""))
        return {
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": before[1] if before[0] == status else now(),
        }  # fmt: skip

    return [
        condition(
            "NamespaceContentRemaining",
            ("ContentRemoved", "All content successfully removed"),
            ("SomeResourcesRemain", "Some resources are remaining"),
            remaining,
        ),
        condition(
            "NamespaceFinalizersRemaining",
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            ("SomeFinalizersRemain", "Some content in the namespace has finalizers remaining"),
            finalizers,
        ),
    ]
