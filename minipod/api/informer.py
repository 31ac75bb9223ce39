"""An informer: what a reader wants to remember of every object of one resource, kept up to date by a watch of the store.

    informer = Informer(store, "roles", keep=rules_of)     # memory is what `keep` returns, not the objects
    informer.subscribe(handler)                            # handler(Change) for what exists, then for each change
    await informer.run()                                   # a root task; `synced` is set after the first list

`keep` must return a value of its own; None: the object is not remembered (and its handlers see a deletion). So it is with one that
`keep` can't read: it is logged. Changes are told after
they are remembered, in order, in the loop. After a Gone everything is listed again, and what vanished meanwhile is told as
deleted.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from minipod.api.store import Object, Store
from minipod.errors import Gone

logger = logging.getLogger(__name__)

# objects that are listed before others get their turn; a dozen informers may list at once
SLICE = 20
Key = tuple[str, str]  # namespace, name
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """One key and its values: *new* is None for what is gone, *old* for what is new."""

    key: Key
    new: T | None
    old: T | None


class Informer(Generic[T]):
    """See the module."""

    def __init__(self, store: Store, resource: str, keep: Callable[[Object], T | None]) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self._store = store
        self._keep = keep
        self._known: dict[Key, T] = {}
        self._handlers: list[Callable[[Change[T]], None]] = []

    def get(self, namespace: str, name: str) -> T | None:
        """Return what is remembered of one object."""
        return self._known.get((namespace, name))

    def items(self, namespace: str | None = None) -> Iterator[tuple[Key, T]]:
        """Yield what is remembered, of one namespace or of all."""
        for key, value in self._known.items():
            if namespace in (None, key[0]):
                yield key, value

    def subscribe(self, handler: Callable[[Change[T]], None]) -> None:
        """Call *handler* for each change from now on, and for what exists already."""
        self._handlers.append(handler)
        for key, value in list(self._known.items()):
            handler(Change(key, value, None))

    async def run(self) -> None:
        """List, then follow, until cancelled."""
        while True:
            version = await self._list()
            self.synced.set()
            try:
                async for event in self._store.watch(self.resource, None, version):
                    deleted = event.type == "DELETED"
                    self._note((event.namespace, event.name), None if deleted else event.object)
            except Gone:
                continue

    async def _list(self) -> int:
        objects, version = await self._store.encoded(self.resource, None)
        vanished = set(self._known)
        for n, data in enumerate(objects, 1):
            if n % SLICE == 0:
                await asyncio.sleep(0)  # what changes meanwhile is in the watch that follows
            obj = json.loads(data)  # one at a time: 10,000 decoded ones would take 100 MB
            metadata = obj["metadata"]
            key = (metadata.get("namespace", ""), metadata["name"])
            vanished.discard(key)
            self._note(key, obj)
        for key in vanished:
            self._note(key, None)
        return version

    def _note(self, key: Key, obj: Object | None) -> None:
        old = self._known.pop(key, None)
        new = None if obj is None else self._kept(key, obj)
        if new is not None:
            self._known[key] = new
        if new is None and old is None:
            return
        change = Change(key, new, old)
        for handler in self._handlers:
            handler(change)

    def _kept(self, key: Key, obj: Object) -> T | None:
        try:
            return self._keep(obj)
        except Exception:  # one such object must not end the node, again and again
            logger.exception("%s %s/%s can't be understood", self.resource, *key)
            return None
