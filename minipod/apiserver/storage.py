"""Versions of encoded objects: all in memory, every write queued to one writer thread that commits to sqlite.

Owns the counter of versions, the bounded log of changes, and who hears of them. Knows keys and bytes, nothing of Kubernetes' rules:
that is `store_sqlite`. Writes are applied in memory at once (the event loop is the only writer) and told; the thread commits
what has queued up as one transaction, with synchronous=FULL when a durable write is among it and NORMAL otherwise. `flush` waits
for the commit. What the log no longer holds is Gone for a watcher that begins there.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from minipod.api.store import Event
from minipod.errors import Gone, Unavailable

logger = logging.getLogger(__name__)

LOG_EVENTS = 10_000
LOG_BYTES = 32 << 20
BUSY = 5.0  # seconds to wait for another process that has the file locked
RETRY = 1.0  # seconds until what the disk refused is tried again
Key = tuple[str, str, str]  # resource, namespace, name
Place = tuple[str, str]  # namespace, name


@dataclass(frozen=True, slots=True)
class Write:
    """One row to write (data None: to delete), or a barrier that *done* waits for."""

    key: Key | None
    rv: int = 0
    data: bytes | None = None
    durable: bool = False
    done: Callable[[Exception | None], object] | None = None


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
        self._path = path
        self._shelves: dict[str, Shelf] = {}
        self._rv = 0
        self._log: deque[Event] = deque()
        self._log_bytes = 0
        self._forgotten = 0  # the newest version that the log no longer holds
        self._watchers: dict[str, set[Watcher]] = {}
        self.listeners: list[Callable[[Event], None]] = []
        self._writes: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_loop, name="store", daemon=True)

    def open(self) -> None:
        """Load everything and start the writer."""
        db = sqlite3.connect(self._path)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(
            "CREATE TABLE IF NOT EXISTS objects (resource TEXT, namespace TEXT, name TEXT, rv INTEGER,"
            " data BLOB, PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID"
        )
        for resource, namespace, name, rv, data in db.execute("SELECT * FROM objects"):
            shelf = self.shelf(resource)
            shelf.data[namespace, name] = data
            shelf.places.append((namespace, name))
            self._rv = max(self._rv, rv)
        # What was deleted had versions, too: they must not come again.
        db.execute("CREATE TABLE IF NOT EXISTS newest (id INTEGER PRIMARY KEY, rv INTEGER)")
        for (rv,) in db.execute("SELECT rv FROM newest"):
            self._rv = max(self._rv, rv)
        db.close()
        for shelf in self._shelves.values():
            shelf.places.sort()
        # Versions that died unwritten must not be given out again: a watcher could take new for old.
        self._rv += LOG_EVENTS
        self._forgotten = self._rv
        for shelf in self._shelves.values():
            shelf.changed = self._rv
        self._thread.start()

    def close(self) -> None:
        """Write what is queued and end the thread."""
        self._writes.put(None)
        self._thread.join()

    @property
    def version(self) -> int:
        return self._rv

    @property
    def forgotten(self) -> int:
        """Watches can begin at this version or later."""
        return self._forgotten

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
        self._writes.put(Write(key, self._rv, data, durable))
        self._tell("MODIFIED" if previous else "ADDED", key, data, previous)

    def remove(self, key: Key, data: bytes, *, durable: bool) -> None:
        """Remove it; *data* is its last form, with `next_version`."""
        shelf, place = self.shelf(key[0]), key[1:]
        previous = shelf.data[place]
        self._rv = shelf.changed = self._rv + 1
        shelf.remove(place)
        self._writes.put(Write(key, self._rv, durable=durable))
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
        for watcher in self._watchers.get(event.resource, ()):
            if watcher.namespace in (None, event.namespace):
                watcher.waiting.put_nowait(event)
        for listener in self.listeners:
            listener(event)

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
        self, resource: str, namespace: str | None, version: int
    ) -> AsyncIterator[Event]:
        """Yield what happens after *version*, for readers in this process, which keep up. Raises Gone."""
        past = self.since(resource, namespace, version)
        watcher = Watcher(namespace)
        self._watchers.setdefault(resource, set()).add(watcher)
        try:
            for event in past:
                yield event
            while True:
                yield await watcher.waiting.get()
        finally:
            self._watchers[resource].discard(watcher)

    # -- the disk

    async def flush(self) -> None:
        """Wait until everything written so far is on disk. Raises Unavailable when the disk does not take it (it is tried again)."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        self._writes.put(Write(None, done=lambda e: loop.call_soon_threadsafe(_resolve, done, e)))
        await done

    def _write_loop(self) -> None:
        db = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
        waiting: list[Write] = []  # what the disk has not taken yet
        ending = False
        while not ending:
            batch = self._next_batch(RETRY if waiting else None)
            ending = None in batch
            waiting += [w for w in batch if w is not None and w.key is not None]
            error: Exception | None = None
            try:
                _commit(db, waiting)
            except sqlite3.Error as e:
                error = Unavailable(f"the store can't write {self._path}: {e}")
                logger.error("%s", error)  # noqa: TRY400 the message is all there is
                if db.in_transaction:
                    db.execute("ROLLBACK")
            else:
                waiting = []
            for write in batch:
                if write is not None and write.done is not None:
                    write.done(error)
        db.close()

    def _next_batch(self, timeout: float | None) -> list[Write | None]:
        """Return what has queued up, waiting for something."""
        try:
            batch = [self._writes.get(timeout=timeout)]
        except queue.Empty:
            return []
        while not self._writes.empty():
            batch.append(self._writes.get())
        return batch


class Watcher:
    """One reader of `Storage.watch`."""

    def __init__(self, namespace: str | None) -> None:
        self.namespace = namespace
        self.waiting: asyncio.Queue[Event] = asyncio.Queue()


def _commit(db: sqlite3.Connection, rows: Sequence[Write]) -> None:
    """Write rows in one transaction. Raises sqlite3.Error."""
    if not rows:
        return
    durable = any(w.durable for w in rows)
    db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    db.execute("BEGIN IMMEDIATE")
    for write in rows:
        _write(db, write)
    db.execute("INSERT OR REPLACE INTO newest VALUES (0, ?)", (rows[-1].rv,))
    db.execute("COMMIT")


def _write(db: sqlite3.Connection, write: Write) -> None:
    key = write.key or ("", "", "")
    if write.data is None:
        db.execute("DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", key)
    else:
        db.execute(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (*key, write.rv, write.data)
        )


def _resolve(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
