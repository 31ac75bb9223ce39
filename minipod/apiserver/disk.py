"""The store's file: the objects that exist, as rows of SQLite (WAL), written by one thread.

    write, write, flush -> one Batch -> the thread: what has queued up is one transaction -> all of its waiters

A batch is handed over by whoever waits for it, or when the turn of the event loop is over; while the thread commits, batches queue up and
share the next commit. Of several writes of one object in a commit only the last reaches the file. A commit is synchronous=FULL when
something durable is among it and NORMAL otherwise. What the disk refuses is told to its waiters, kept, and tried again.

Each statement gives the interpreter's lock away and wants it back, from an event loop that has a pod to start: there are as few as can be.

`store_file` has the file's layout.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from minipod.apiserver import store_file
from minipod.errors import Unavailable

logger = logging.getLogger(__name__)

BUSY = 5.0  # seconds to wait for another process that has the file locked
RETRY = 1.0  # seconds until what the disk refused is tried again
Key = tuple[str, str, str]  # resource, namespace, name


@dataclass(frozen=True, slots=True)
class Row:
    """One write: an object's bytes (None: it is deleted) at a version."""

    key: Key
    rv: int
    data: bytes | None
    durable: bool


@dataclass(slots=True)
class Batch:
    """What one turn of the loop wrote, and who waits until it is on disk."""

    rows: list[Row] = field(default_factory=list)
    waiters: list[asyncio.Future[None]] = field(default_factory=list)


class Disk:
    """`open` and `load` before use, `close` after."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._batch: Batch | None = None  # of this turn of the loop
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    def load(self) -> Iterator[tuple[Key, bytes]]:
        """Yield every object; at the end `version` is the newest version that was written. Starts the writer.

        Raises FailedPrecondition when the file is a newer minipod's.
        """
        db = sqlite3.connect(self._path)
        store_file.prepare(db, self._path)
        self.version = 0
        for rv, *key, data in db.execute("SELECT * FROM objects"):
            self.version = rv
            yield (key[0], key[1], key[2]), data
        for (rv,) in db.execute("SELECT rv FROM newest"):
            self.version = max(self.version, rv)
        db.close()
        self._thread.start()

    def close(self) -> None:
        """Write what is queued and end the thread."""
        self._hand_over()
        self._batches.put(None)
        self._thread.join()

    def write(self, row: Row) -> None:
        """Queue a row."""
        self._turn().rows.append(row)

    async def flush(self) -> None:
        """Wait until everything written so far is on disk. Raises Unavailable when the disk does not take it (it is tried again)."""
        done = asyncio.get_running_loop().create_future()
        self._turn().waiters.append(done)
        self._hand_over()
        await done

    def _turn(self) -> Batch:
        if self._batch is None:
            self._batch = Batch()
            asyncio.get_running_loop().call_soon(self._hand_over)
        return self._batch

    def _hand_over(self) -> None:
        if self._batch is not None:
            self._batches.put(self._batch)
            self._batch = None

    # -- the thread

    def _run(self) -> None:
        db = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
        left: list[Row] = []  # what the disk has not taken yet
        synchronous = ""
        ending = False
        while not ending:
            batches = self._next(RETRY if left else None)
            ending = None in batches
            waiters = []
            for batch in filter(None, batches):
                left += batch.rows
                waiters += batch.waiters
            error: Exception | None = None
            wanted = "FULL" if any(row.durable for row in left) else "NORMAL"
            try:
                if wanted != synchronous:
                    db.execute(f"PRAGMA synchronous={wanted}")
                    synchronous = wanted
                _commit(db, left)
            except sqlite3.Error as e:
                error = Unavailable(f"the store can't write {self._path}: {e}")
                logger.error("%s", error)  # noqa: TRY400 the message is all there is
                if db.in_transaction:
                    db.execute("ROLLBACK")
            else:
                left = []
            if waiters:
                waiters[0].get_loop().call_soon_threadsafe(_tell, waiters, error)
        db.close()

    def _next(self, timeout: float | None) -> list[Batch | None]:
        """Return what has queued up, waiting for something."""
        try:
            found = [self._batches.get(timeout=timeout)]
        except queue.Empty:
            return []
        while not self._batches.empty():
            found.append(self._batches.get())
        return found


def _commit(db: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Write rows in one transaction. Raises sqlite3.Error."""
    last = tuple({row.key: row for row in rows}.values())
    if len(last) == 1 and last[0].data is not None:
        _write(db, last[0])  # a statement is a transaction of its own
    elif last:
        db.execute("BEGIN IMMEDIATE")
        for row in last:
            _write(db, row)
        if rows[-1].data is None:
            db.execute("INSERT OR REPLACE INTO newest VALUES (0, ?)", (rows[-1].rv,))
        db.execute("COMMIT")


def _write(db: sqlite3.Connection, row: Row) -> None:
    if row.data is None:
        db.execute("DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", row.key)
    else:
        values = (row.rv, *row.key, row.data)
        db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", values)


def _tell(waiters: list[asyncio.Future[None]], error: Exception | None) -> None:
    for done in waiters:
        if done.done():
            continue  # cancelled
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
