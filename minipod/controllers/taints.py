"""Deletes pods that do not tolerate a NoExecute taint of their node (pkg/controller/tainteviction).

At once, or after the tolerationSeconds of the toleration that ends first, counted from when the taint was seen here: a restart of the
daemon begins anew. Mirrors of static pods stay: only their file ends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, NamedTuple

from minipod.api import disruption, placement, static
from minipod.api.informer import Change
from minipod.api.placement import NodeFacts
from minipod.api.store import Object, Store
from minipod.controllers.controller import Controller, Informers
from minipod.errors import NotFound

Key = tuple[str, str]  # namespace, name


class Tolerant(NamedTuple):
    """What of a pod matters."""

    uid: str
    node: str
    tolerations: tuple[Any, ...]


def _tolerant(pod: Object) -> Tolerant | None:
    if pod["metadata"].get("deletionTimestamp") or static.mirrored(pod):
        return None
    spec = pod["spec"]
    return Tolerant(
        pod["metadata"]["uid"], spec.get("nodeName", ""), tuple(spec.get("tolerations") or ())
    )


class TaintController(Controller[Key]):
    """See the module."""

    name = "taints"

    def __init__(self, store: Store, informers: Informers) -> None:
        super().__init__()
        self._store = store
        self._since: dict[str, float] = {}  # pod uid -> when its node's taints were first seen
        self._nodes = informers.of("nodes", placement.node_facts)
        self._pods = informers.of("pods", _tolerant)
        self._nodes.subscribe(self._node_changed)
        self._pods.subscribe(self._pod_changed)

    def _node_changed(self, change: Change[NodeFacts]) -> None:
        def taints(node: NodeFacts | None) -> tuple[Any, ...]:
            return () if node is None else placement.no_execute(node)

        if taints(change.old) == taints(change.new):
            return
        for key, pod in self._pods.items():
            if pod.node == change.key[1]:
                self.enqueue(key)

    def _pod_changed(self, change: Change[Tolerant]) -> None:
        if change.new is None:
            self._since.pop(change.old.uid if change.old else "", None)
        elif change.new != change.old and self._taints_of(change.new):
            self.enqueue(change.key)

    def _taints_of(self, pod: Tolerant) -> tuple[Any, ...]:
        node = self._nodes.get("", pod.node)
        return () if node is None else placement.no_execute(node)

    async def reconcile(self, key: Key) -> None:
        pod = self._pods.get(*key)
        if pod is None:
            return
        seconds = placement.stays(self._taints_of(pod), pod.tolerations)
        if seconds is None:
            self._since.pop(pod.uid, None)
            return
        now = asyncio.get_running_loop().time()
        left = self._since.setdefault(pod.uid, now) + seconds - now
        if left > 0:
            self.enqueue(key, left)
            return
        await self._delete(key, pod.uid)

    async def _delete(self, key: Key, uid: str) -> None:
        def mark(pod: Object) -> Object | None:
            if pod["metadata"]["uid"] != uid:
                return None
            return disruption.marked(pod, disruption.TAINT, time.time())

        with contextlib.suppress(NotFound):
            await self._store.mutate("pods", *key, mark, "status")
            await self._store.delete("pods", *key, grace_period=None, uid=uid)
