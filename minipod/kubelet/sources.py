"""Where pods come from: the store, listed and watched; each change becomes one call.

Owns the set of pods that are known to exist, so that a relist after Gone also finds who vanished.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from minipod.errors import Gone
from minipod.kubelet.rules.pods import Pod, compile_pod, recompile_pod

if TYPE_CHECKING:
    from collections.abc import Callable

    from minipod.api.store import Store

logger = logging.getLogger(__name__)

SLICE = 4  # pods whose workers start before others get their turn: a sync takes some milliseconds


class PodSource:
    """The pods of one node. A pod without a node is ours: there is no scheduler beside us.

    Mirrors of static pods are told apart, by *mirror*: (kind of change, raw object).
    """

    def __init__(
        self,
        store: Store,
        node_name: str,
        *,
        changed: Callable[[Pod], None],
        gone: Callable[[Pod], None],
        mirror: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._store = store
        self._node_name = node_name
        self._changed = changed
        self._gone = gone
        self._mirror = mirror
        self._known: dict[str, Pod] = {}

    async def snapshot(self) -> tuple[list[Pod], int]:
        """List our pods; return them and the version to watch from."""
        items, version = await self._store.list("pods", None)
        return [pod for pod in map(self._compile, items) if self._is_ours(pod)], version

    async def run(self, pods: list[Pod], version: int) -> None:
        """Deliver *pods*, then every change, until cancelled."""
        while True:
            await self._replace(pods)
            try:
                async for event in self._store.watch("pods", None, version):
                    self._deliver(event.type, self._compile(event.object))
            except Gone:
                logger.info("the watch of pods is too old, listing again")
            pods, version = await self.snapshot()

    def _compile(self, raw: dict[str, Any]) -> Pod:
        """Compile what was stored; it is kept as long as the pod lives, so without what nobody here reads."""
        raw["metadata"].pop("managedFields", None)
        before = self._known.get(raw["metadata"].get("uid", ""))
        return compile_pod(raw) if before is None else recompile_pod(before, raw)

    async def _replace(self, pods: list[Pod]) -> None:
        """Deliver them a few at a time: requests come between."""
        present = {pod.uid for pod in pods}
        for pod in [p for uid, p in self._known.items() if uid not in present]:
            self._deliver("DELETED", pod)
        for n, pod in enumerate(pods, 1):
            if n % SLICE == 0:
                await asyncio.sleep(0)
            self._deliver("MODIFIED", pod)

    def _deliver(self, kind: str, pod: Pod) -> None:
        if not self._is_ours(pod):
            return
        if pod.is_mirror:
            self._mirror(kind, dict(pod.raw))
            return
        if kind == "DELETED":
            self._known.pop(pod.uid, None)
            self._gone(pod)
        elif kind in ("ADDED", "MODIFIED"):
            self._known[pod.uid] = pod
            self._changed(pod)

    def _is_ours(self, pod: Pod) -> bool:
        return pod.node_name in ("", self._node_name)
