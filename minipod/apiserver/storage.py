"""Versions of encoded objects: all in memory, every write also queued to `disk`.

Owns the counter of versions, the bounded log of changes, and who hears of them. Knows keys and bytes, nothing of Kubernetes' rules:
that is `store_sqlite`. Writes are applied in memory at once (the event loop is the only writer) and told; `flush` waits until they are on
disk. What the log no longer holds is Gone for a watcher that begins there.
"""

from __future__ import annotations

import asyncio
import bisect
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from minipod.api.store import Event
from minipod.apiserver.disk import Disk, Key, Row
from minipod.errors import Gone

LOG_EVENTS = 10_000
LOG_BYTES = 32 << 20
Place = tuple[str, str]  # namespace, name


@dataclass(slots=True)
class Shelf:
    """The objects of one resource: their bytes, and their places in order."""

    data: dict[Place, bytes] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    changed: int = 0  # the version of the last change

    def put(self, place: Place, data: bytes) -> None:
        if place not in self.data:
            bisect.insort(self.places, place)
        self.data[place] = data

    def remove(self, place: Place) -> None:
        del self.data[place]
        del self.places[bisect.bisect_left(self.places, place)]

    def select(self, namespace: str | None) -> Iterator[Place]:
        """Yield the places of one namespace (None: all), ordered by namespace and name."""
        if namespace is None:
            yield from self.places
            return
        for i in range(bisect.bisect_left(self.places, (namespace, "")), len(self.places)):
            if self.places[i][0] != namespace:
                return
            yield self.places[i]


class Storage:
    """`open` before use, `close` after."""

    def __init__(self, path: str) -> None:
        self._disk = Disk(path)
        self.close = self._disk.close
        self.flush = self._disk.flush
        self._shelves: dict[str, Shelf] = {}
        self._rv = 0
        self._log: deque[Event] = deque()
        self._log_bytes = 0
        self._forgotten = 0  # the newest version that the log no longer holds
        # Of each resource, in the order in which they came: the kubelet's is before those of controllers.
        self._watchers: dict[str, dict[Watcher, None]] = {}
        self.listeners: list[Callable[[Event], None]] = []

    def open(self) -> None:
        """Load everything and start the writer."""
        for key, data in self._disk.load():
            shelf = self.shelf(key[0])
            shelf.data[key[1:]] = data
            shelf.places.append(key[1:])
        for shelf in self._shelves.values():
            shelf.places.sort()
        # Versions that died unwritten must not be given out again: a watcher could take new for old.
        self._rv = self._disk.version + LOG_EVENTS
        self._forgotten = self._rv
        for shelf in self._shelves.values():
            shelf.changed = self._rv

    @property
    def version(self) -> int:
        return self._rv

    def shelf(self, resource: str) -> Shelf:
        return self._shelves.setdefault(resource, Shelf())

    def get(self, key: Key) -> bytes | None:
        return self.shelf(key[0]).data.get(key[1:])

    def next_version(self) -> int:
        """Return the version that the next `put` or `remove` will have."""
        return self._rv + 1

    def put(self, key: Key, data: bytes, *, durable: bool) -> None:
        """Store *data*, which carries `next_version`, and tell."""
        shelf, place = self.shelf(key[0]), key[1:]
        previous = shelf.data.get(place, b"")
        self._rv = shelf.changed = self._rv + 1
        shelf.put(place, data)
        self._disk.write(Row(key, self._rv, data, durable))
        self._tell("MODIFIED" if previous else "ADDED", key, data, previous)

    def remove(self, key: Key, data: bytes, *, durable: bool) -> None:
        """Remove it; *data* is its last form, with `next_version`."""
        shelf, place = self.shelf(key[0]), key[1:]
        previous = shelf.data[place]
        self._rv = shelf.changed = self._rv + 1
        shelf.remove(place)
        self._disk.write(Row(key, self._rv, None, durable))
        self._tell("DELETED", key, data, previous)

    # -- watch

    def _tell(self, kind: str, key: Key, data: bytes, previous: bytes) -> None:
        event = Event(
            type=kind, resource=key[0], namespace=key[1], name=key[2], rv=self._rv,
            data=data, previous=previous,
        )  # fmt: skip
        self._log.append(event)
        self._log_bytes += len(data)
        while len(self._log) > LOG_EVENTS or self._log_bytes > LOG_BYTES:
            old = self._log.popleft()
            self._log_bytes -= len(old.data)
            self._forgotten = old.rv
        # Clients first: readers in this process work on it for a while.
        for listener in self.listeners:
            listener(event)
        for watcher in self._watchers.get(event.resource, ()):
            if watcher.namespace in (None, event.namespace):
                watcher.tell(event)

    def since(self, resource: str, namespace: str | None, version: int) -> list[Event]:
        """Return what happened after *version*. Raises Gone when that is no longer known."""
        if version < self._forgotten:
            raise Gone(f"too old resource version: {version} ({self._forgotten})")
        found: list[Event] = []
        for event in reversed(self._log):
            if event.rv <= version:
                break
            if event.resource == resource and namespace in (None, event.namespace):
                found.append(event)
        found.reverse()
        return found

    async def watch(
        self, resource: str, namespace: str | None, version: int, *, patience: float = 0.0
    ) -> AsyncIterator[Event]:
        """Yield what happens after *version*, for readers in this process, which keep up; see `Store.watch`. Raises Gone."""
        past = self.since(resource, namespace, version)
        watcher = Watcher(namespace, patience)
        self._watchers.setdefault(resource, {})[watcher] = None
        try:
            for event in past:
                yield event
            while True:
                yield await watcher.waiting.get()
        finally:
            del self._watchers[resource][watcher]


class Watcher:
    """One reader of `Storage.watch`."""

    def __init__(self, namespace: str | None, patience: float) -> None:
        self.namespace = namespace
        self.waiting: asyncio.Queue[Event] = asyncio.Queue()
        self._patience = patience
        self._kept: list[Event] = []  # until the first of them has waited that long

    def tell(self, event: Event) -> None:
        if not self._patience:
            self.waiting.put_nowait(event)
            return
        if not self._kept:
            asyncio.get_running_loop().call_later(self._patience, self._tell_kept)
        self._kept.append(event)

    def _tell_kept(self) -> None:
        kept, self._kept = self._kept, []
        for event in kept:
            self.waiting.put_nowait(event)
