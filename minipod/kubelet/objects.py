"""Objects that pods refer to: read from the store when they are needed, watched so that a change reaches its pods at once.

Owns no copy: the store is in this process or its cache. One watch for each kind, whatever the number of pods; an index says whom
an object concerns.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from minipod.errors import Gone, NotFound
from minipod.kubelet.rules import references

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from minipod.api.store import Store
    from minipod.kubelet.rules.pods import Pod, Raw
    from minipod.kubelet.rules.references import Objects, Reference

logger = logging.getLogger(__name__)

Key = tuple[str, str, str]  # resource, namespace, name


class ObjectReader:
    """Reads objects as values."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, namespace: str, wanted: Iterable[Reference]) -> Objects:
        """Return the objects; None for one that is not there."""
        return {(kind, name): await self.get(kind, namespace, name) for kind, name in wanted}

    async def get(self, resource: str, namespace: str, name: str) -> Raw | None:
        """Return one object, None when it is not there."""
        try:
            return await self._store.get(resource, namespace, name)
        except NotFound:
            return None

    async def services(self, namespace: str) -> list[Raw]:
        """Return the services of a namespace, and the master's."""
        found, _ = await self._store.list("services", namespace)
        if namespace != "default":
            master = await self.get("services", "default", "kubernetes")
            found = [*found, *([dict(master)] if master is not None else [])]
        return list(found)


class ObjectWatch:
    """Tells whose objects changed: *changed* is called with the uid of a pod."""

    def __init__(self, store: Store, changed: Callable[[str], None]) -> None:
        self._store = store
        self._changed = changed
        self._pods: dict[str, frozenset[Key]] = {}  # uid -> what it refers to
        self._index: dict[Key, set[str]] = {}

    def set_pod(self, pod: Pod) -> None:
        """Note what *pod* refers to."""
        wanted = frozenset((kind, pod.namespace, name) for kind, name in references.of_pod(pod))
        old = self._pods.get(pod.uid, frozenset())
        if wanted == old:
            return
        self._pods[pod.uid] = wanted
        for key in wanted - old:
            self._index.setdefault(key, set()).add(pod.uid)
        self._drop(pod.uid, old - wanted)

    def forget(self, uid: str) -> None:
        """The pod is gone. Idempotent."""
        self._drop(uid, self._pods.pop(uid, frozenset()))

    def _drop(self, uid: str, keys: Iterable[Key]) -> None:
        for key in keys:
            owners = self._index[key]
            owners.discard(uid)
            if not owners:
                del self._index[key]

    async def run(self, resource: str) -> None:
        """Watch one kind until cancelled."""
        while True:
            _, version = await self._store.encoded(resource, None)
            self._all_changed(resource)  # what happened before the watch, or between two
            try:
                async for event in self._store.watch(resource, None, version):
                    key = (resource, event.namespace, event.name)
                    for uid in tuple(self._index.get(key, ())):
                        self._changed(uid)
            except Gone:
                logger.info("the watch of %s is too old, listing again", resource)

    def _all_changed(self, resource: str) -> None:
        for uid in {u for key, owners in self._index.items() if key[0] == resource for u in owners}:
            self._changed(uid)
