"""The store on sqlite3: every object in memory as encoded bytes, every write queued to one writer thread.

Writes are applied in memory at once (the event loop is the only writer) and told to watchers; the thread commits what has queued up as
one transaction, with synchronous=FULL when a client's write is among it and NORMAL for status, events and leases alone. `flush`
waits for the commit. A bounded log of events serves watches that begin in the past; what is older is Gone.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minipod.api.meta import now
from minipod.api.store import Event, Object
from minipod.errors import AlreadyExists, Conflict, Gone, NotFound

LOG_EVENTS = 10_000
TERMINAL = ("Succeeded", "Failed")
Key = tuple[str, str, str]  # resource, namespace, name
Objects = list[Object]  # inside the class, `list` is the verb
Encoded = list[bytes]


@dataclass(frozen=True, slots=True)
class Write:
    """One row to write (data None: to delete), or a barrier that *done* waits for."""

    key: Key | None
    rv: int = 0
    data: bytes | None = None
    durable: bool = False
    done: Callable[[], None] | None = None


def encode(obj: Object) -> bytes:
    return json.dumps(obj, separators=(",", ":"), ensure_ascii=False).encode()


class SqliteStore:
    """See `minipod.api.store.Store`. `open` before use, `close` after."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._objects: dict[Key, bytes] = {}
        self._rv = 0
        self._log: deque[Event] = deque(maxlen=LOG_EVENTS)
        self._forgotten = 0  # the newest version that the log no longer holds
        self._watchers: set[tuple[str, str | None, asyncio.Queue[Event]]] = set()
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
            self._objects[resource, namespace, name] = data
            self._rv = max(self._rv, rv)
        db.close()
        # Versions that died unwritten must not be given out again: a watcher could take new for old.
        self._rv += LOG_EVENTS
        self._forgotten = self._rv
        self._thread.start()

    def close(self) -> None:
        """Write what is queued and end the thread."""
        self._writes.put(None)
        self._thread.join()

    # -- reads

    async def get(self, resource: str, namespace: str, name: str) -> Object:
        return self._load((resource, namespace, name))

    async def list(self, resource: str, namespace: str | None) -> tuple[Objects, int]:
        found = [json.loads(data) for data in self.encoded(resource, namespace)]
        return found, self._rv

    def encoded(self, resource: str, namespace: str | None) -> Encoded:
        """Return the objects as JSON, ordered by namespace and name: a list is their joining."""
        keys = [k for k in self._objects if k[0] == resource and namespace in (None, k[1])]
        return [self._objects[k] for k in sorted(keys)]

    @property
    def version(self) -> int:
        return self._rv

    def _load(self, key: Key) -> Object:
        try:
            loaded: Object = json.loads(self._objects[key])
        except KeyError:
            raise NotFound(f'{key[0]} "{key[2]}" not found') from None
        return loaded

    # -- writes

    async def create(self, resource: str, namespace: str, obj: Object) -> Object:
        metadata = obj.setdefault("metadata", {})
        if metadata.get("generateName") and not metadata.get("name"):
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        key = (resource, namespace, metadata["name"])
        if key in self._objects:
            raise AlreadyExists(f'{resource} "{key[2]}" already exists')
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = now()
        if namespace:
            metadata["namespace"] = namespace
        return self._put("ADDED", key, obj, durable=resource != "events")

    async def update(
        self, resource: str, namespace: str, name: str, obj: Object, subresource: str = ""
    ) -> Object:
        key = (resource, namespace, name)
        current = self._load(key)
        given = obj.get("metadata", {}).get("resourceVersion")
        if given and given != current["metadata"]["resourceVersion"]:
            raise Conflict(
                f'{resource} "{name}": the object has been modified; please apply your changes to the latest'
                " version and try again"
            )
        return self._replace(key, current, obj, subresource)

    async def mutate(
        self,
        resource: str,
        namespace: str,
        name: str,
        fn: Callable[[Object], Object | None],
        subresource: str = "",
    ) -> Object:
        key = (resource, namespace, name)
        changed = fn(self._load(key))
        current = self._load(key)
        return current if changed is None else self._replace(key, current, changed, subresource)

    def _replace(self, key: Key, current: Object, wanted: Object, subresource: str) -> Object:
        if subresource == "status":
            merged = {**current, "status": wanted.get("status", {})}
            if "conditions" not in merged["status"] and key[0] == "pods":
                merged["status"]["conditions"] = current.get("status", {}).get("conditions", [])
        else:
            merged = {**wanted}
            if "status" in current:
                merged["status"] = current["status"]
        kept = (
            "uid",
            "creationTimestamp",
            "namespace",
            "name",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        )
        merged["metadata"] = {
            **(current if subresource else wanted)["metadata"],
            **{k: current["metadata"][k] for k in kept if k in current["metadata"]},
        }
        merged["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
        if merged == current:
            return current
        terminal = merged.get("status", {}).get("phase") in TERMINAL if key[0] == "pods" else False
        return self._put("MODIFIED", key, merged, durable=not subresource or terminal)

    async def delete(
        self,
        resource: str,
        namespace: str,
        name: str,
        *,
        grace_period: int | None,
        uid: str | None = None,
    ) -> Object:
        key = (resource, namespace, name)
        obj = self._load(key)
        metadata = obj["metadata"]
        if uid is not None and metadata["uid"] != uid:
            raise Conflict(
                f'{resource} "{name}": the uid in the precondition is not that of the object'
            )
        if resource == "pods" and grace_period != 0:
            return self._mark(key, obj, grace_period)
        del self._objects[key]
        self._rv += 1
        metadata["resourceVersion"] = str(self._rv)
        self._writes.put(Write(key, durable=resource != "events"))
        self._tell("DELETED", key, obj, encode(obj))
        return obj

    def _mark(self, key: Key, obj: Object, grace_period: int | None) -> Object:
        """Begin a graceful deletion, or shorten one."""
        metadata = obj["metadata"]
        default = obj.get("spec", {}).get("terminationGracePeriodSeconds", 30)
        grace = default if grace_period is None else grace_period
        earlier = metadata.get("deletionGracePeriodSeconds")
        if earlier is not None and (grace_period is None or grace >= earlier):
            return obj
        metadata["deletionTimestamp"] = now(grace)
        metadata["deletionGracePeriodSeconds"] = grace
        return self._put("MODIFIED", key, obj, durable=True)

    def _put(self, kind: str, key: Key, obj: Object, *, durable: bool) -> Object:
        self._rv += 1
        obj["metadata"]["resourceVersion"] = str(self._rv)
        data = encode(obj)
        self._objects[key] = data
        self._writes.put(Write(key, self._rv, data, durable))
        self._tell(kind, key, obj, data)
        return json.loads(data)  # type: ignore[no-any-return]

    # -- watch

    def _tell(self, kind: str, key: Key, obj: Object, data: bytes) -> None:
        event = Event(
            type=kind,
            resource=key[0],
            namespace=key[1],
            name=key[2],
            rv=self._rv,
            data=data,
            object=obj,
        )
        if len(self._log) == self._log.maxlen:
            self._forgotten = self._log[0].rv
        self._log.append(event)
        for resource, namespace, waiting in self._watchers:
            if resource == key[0] and namespace in (None, key[1]):
                waiting.put_nowait(event)

    async def watch(
        self, resource: str, namespace: str | None, since_rv: int
    ) -> AsyncIterator[Event]:
        if since_rv < self._forgotten:
            raise Gone(f"too old resource version: {since_rv} ({self._forgotten})")
        waiting: asyncio.Queue[Event] = asyncio.Queue()
        entry = (resource, namespace, waiting)
        self._watchers.add(entry)
        past = [
            e
            for e in self._log
            if e.rv > since_rv and e.resource == resource and namespace in (None, e.namespace)
        ]
        try:
            for event in past:
                yield event
            while True:
                yield await waiting.get()
        finally:
            self._watchers.discard(entry)

    # -- the disk

    async def flush(self) -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        self._writes.put(Write(None, done=lambda: _wake(loop, done)))
        await done.wait()

    def _write_loop(self) -> None:
        db = sqlite3.connect(self._path, isolation_level=None)
        while True:
            first = self._writes.get()
            batch = [first]
            while not self._writes.empty():
                batch.append(self._writes.get())
            writes = [w for w in batch if w is not None]
            self._commit(db, writes)
            if None in batch:
                db.close()
                return

    def _commit(self, db: sqlite3.Connection, writes: Sequence[Write]) -> None:
        rows = [w for w in writes if w.key is not None]
        if rows:
            durable = any(w.durable for w in rows)
            db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            db.execute("BEGIN")
            for write in rows:
                self._write(db, write)
            db.execute("COMMIT")
        for write in writes:
            if write.done is not None:
                write.done()

    def _write(self, db: sqlite3.Connection, write: Write) -> None:
        parameters: tuple[Any, ...] = write.key or ()
        if write.data is None:
            db.execute(
                "DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", parameters
            )
        else:
            db.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
                (*parameters, write.rv, write.data),
            )


def _wake(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    loop.call_soon_threadsafe(done.set)
