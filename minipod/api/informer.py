"""An informer: what a reader wants to remember of every object of one resource, kept up to date by a watch of the store.

    informer = Informer(store, "roles", keep=rules_of)     # memory is what `keep` returns, not the objects
    informer.subscribe(handler)                            # handler(Change) for what exists, then for each change
    await informer.run()                                   # a root task; `synced` is set after the first list
    await run_together(store, "roles", [informer, other])  # or several of one resource, by one watch

`keep` must return a value of its own, and leave the object as it is, which others are given, too; None: the object is not remembered (and
its handlers see a deletion). So it is with one that `keep` can't read: it is logged. Changes are told after they are remembered, in
order, in the loop. After a Gone everything is listed again, and what vanished meanwhile is told as deleted.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

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
        await run_together(self._store, self.resource, (self,))

    def keep_only(self, keys: set[Key]) -> None:
        """Note that all others are gone."""
        for key in self._known.keys() - keys:
            self.note(key, None)

    def note(self, key: Key, obj: Object | None) -> None:
        """Remember what is to be remembered of *obj*, None for one that is gone, and tell the handlers."""
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


async def run_together(
    store: Store, resource: str, informers: Sequence[Informer[Any]], *, patience: float = 0.0
) -> None:
    """Run informers of one resource by one watch, which decodes each object once: list, then follow, until cancelled.

    *patience* is the watch's (`Store.watch`).
    """
    while True:
        version = await _list(store, resource, informers)
        for informer in informers:
            informer.synced.set()
        try:
            async for event in store.watch(resource, None, version, patience=patience):
                obj = None if event.type == "DELETED" else event.object
                for informer in informers:
                    informer.note((event.namespace, event.name), obj)
        except Gone:
            continue


async def _list(store: Store, resource: str, informers: Sequence[Informer[Any]]) -> int:
    objects, version = await store.encoded(resource, None)
    present: set[Key] = set()
    for n, data in enumerate(objects, 1):
        if n % SLICE == 0:
            await asyncio.sleep(0)  # what changes meanwhile is in the watch that follows
        obj = json.loads(data)  # one at a time: 10,000 decoded ones would take 100 MB
        metadata = obj["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        present.add(key)
        for informer in informers:
            informer.note(key, obj)
    for informer in informers:
        informer.keep_only(present)
    return version
