"""The base of all controllers, and its queue of keys.

    informer --subscribe--> enqueue(key) --> reconcile(key), at most `workers` at a time, never twice at once for a key

A key that is enqueued while it waits is there once; while it is being reconciled, it comes again afterwards. A reconcile that raises is
tried again after a delay that doubles (client-go's ItemExponentialFailureRateLimiter: 5 ms to 1000 s; here at most five minutes); a
Conflict or NotFound only says that the world moved on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Generic, TypeVar

from minipod.aio.tasks import Background
from minipod.api.informer import Informer, run_together
from minipod.api.store import Object, Store
from minipod.errors import Conflict, NotFound

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

FIRST_DELAY, LONGEST_DELAY = 0.005, 300.0  # seconds
PATIENCE = 0.02  # seconds until a controller hears of a change: by then the kubelet has done what somebody waits for


class WorkQueue(Generic[K]):
    """Keys that wait, each once; see the module."""

    def __init__(self) -> None:
        self._waiting: dict[K, None] = {}
        self._busy: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._grown = asyncio.Event()

    def add(self, key: K, delay: float = 0.0) -> None:
        """Let *key* wait, after *delay* seconds; the earlier of two times holds."""
        loop = asyncio.get_running_loop()
        timer = self._timers.pop(key, None)
        if timer is not None:
            delay = min(delay, max(0.0, timer.when() - loop.time()))
            timer.cancel()
        if delay > 0.0:
            self._timers[key] = loop.call_later(delay, self._due, key)
        else:
            self._put(key)

    async def get(self) -> K:
        """Take the key that waits longest; `done` must follow."""
        while not self._waiting:
            self._grown.clear()
            await self._grown.wait()
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._busy.add(key)
        return key

    def done(self, key: K, *, failed: bool) -> None:
        """Say how it went; a key that failed comes again by itself."""
        self._busy.discard(key)
        if not failed:
            self._failures.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self._put(key)
        elif failed:
            count = self._failures[key] = self._failures.get(key, 0) + 1
            self.add(key, min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(count - 1, 30)))

    def close(self) -> None:
        """Cancel what is to come."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self._put(key)

    def _put(self, key: K) -> None:
        if key in self._busy:
            self._again.add(key)
        else:
            self._waiting[key] = None
            self._grown.set()


class Informers:
    """The informers of all controllers: two that want the same of a resource share one, all of a resource its watch."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._made: dict[tuple[str, Callable[[Object], Any]], Informer[Any]] = {}

    def of(self, resource: str, keep: Callable[[Object], T | None]) -> Informer[T]:
        """Return the informer of *resource* that keeps what *keep* returns."""
        found = self._made.get((resource, keep))
        if found is None:
            found = self._made[resource, keep] = Informer(self._store, resource, keep)
        return found

    async def run(self) -> None:
        """Run all of them until cancelled."""
        of_resource: dict[str, list[Informer[Any]]] = {}
        for informer in self._made.values():
            of_resource.setdefault(informer.resource, []).append(informer)
        async with asyncio.TaskGroup() as group:
            for resource, informers in of_resource.items():
                running = run_together(self._store, resource, informers, patience=PATIENCE)
                group.create_task(running, name=f"informer {resource}")

    async def synced(self) -> None:
        """Wait for the first list of each."""
        for informer in self._made.values():
            await informer.synced.wait()


class Controller(Generic[K]):
    """Subclasses subscribe to informers in `__init__`, call `enqueue`, and define `reconcile`."""

    name: ClassVar[str]
    workers: ClassVar[int] = 1

    def __init__(self) -> None:
        self._queue: WorkQueue[K] = WorkQueue()
        self.background = Background()  # what a subclass starts; ends with it

    def enqueue(self, key: K, delay: float = 0.0) -> None:
        """Have *key* reconciled."""
        self._queue.add(key, delay)

    async def reconcile(self, key: K) -> None:
        """Make what *key* stands for as it should be."""
        raise NotImplementedError

    async def run(self) -> None:
        """Reconcile what is enqueued, until cancelled."""
        try:
            for i in range(self.workers - 1):
                self.background.spawn(self._work(), name=f"{self.name} {i + 1}")
            await self._work()
        finally:
            self._queue.close()
            await self.background.close()

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            failed = True
            try:
                await self.reconcile(key)
                failed = False
            except (Conflict, NotFound) as e:
                logger.debug("%s: %s: %s", self.name, key, e)
            except Exception:  # a task boundary: one key that fails must not end the others
                logger.exception("%s: %s failed", self.name, key)
            finally:
                self._queue.done(key, failed=failed)
