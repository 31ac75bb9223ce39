"""Events live for an hour after their last write (kube-apiserver's --event-ttl), whatever times they name themselves.

A write that is seen counts from now. Of events that were there at the start nobody knows when they were written; the newest time
in them that is not of the future says it. Owns one alarm at the earliest due time, and nobody polls: the watch says which events there
are. Not here: how events come to be (`kubelet.events`).
"""

from __future__ import annotations

import asyncio
import heapq
import json
from datetime import datetime
from typing import Any

from minipod.aio.timers import Alarm, Clock
from minipod.api.store import Store
from minipod.controllers.controller import PATIENCE
from minipod.errors import Conflict, Gone, NotFound

LIFETIME = 3600.0  # seconds
_Due = tuple[float, str, str]  # when, namespace, name


class EventExpiry:
    """Deletes events that nothing has changed for LIFETIME."""

    def __init__(self, store: Store, clock: Clock, lifetime: float = LIFETIME) -> None:
        self._store = store
        self._clock = clock
        self._lifetime = lifetime
        self._heap: list[_Due] = []
        self._due: dict[tuple[str, str], float] = {}  # the newest due time of each event
        self._wake = asyncio.Event()
        self._alarm = Alarm(clock, self._wake.set)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(), name="events-watch")
                group.create_task(self._expire(), name="events-expire")
        finally:
            self._alarm.cancel()

    async def _follow(self) -> None:
        while True:
            events, version = await self._store.encoded("events", None)
            for data in events:
                event = json.loads(data)
                self._written(_key(event), last_write(event, self._clock()))
            try:
                async for change in self._store.watch("events", None, version, patience=PATIENCE):
                    if change.type == "DELETED":
                        self._due.pop((change.namespace, change.name), None)
                    else:
                        self._written((change.namespace, change.name), self._clock())
            except Gone:
                continue  # too far behind: list again

    def _written(self, key: tuple[str, str], when: float) -> None:
        due = when + self._lifetime
        if key not in self._due:
            heapq.heappush(self._heap, (due, *key))
            self._wake.set()
        self._due[key] = max(due, self._due.get(key, due))

    async def _expire(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._heap and self._heap[0][0] <= self._clock():
                _, namespace, name = heapq.heappop(self._heap)
                await self._expire_one(namespace, name)
            self._alarm.set(self._heap[0][0] if self._heap else None)

    async def _expire_one(self, namespace: str, name: str) -> None:
        due = self._due.get((namespace, name))
        if due is None:
            return
        if due > self._clock():  # it was changed meanwhile
            heapq.heappush(self._heap, (due, namespace, name))
            return
        del self._due[namespace, name]
        try:
            await self._store.delete("events", namespace, name, grace_period=0)
        except (NotFound, Conflict):
            return


def _key(event: dict[str, Any]) -> tuple[str, str]:
    return event["metadata"].get("namespace", ""), event["metadata"]["name"]


def last_write(event: dict[str, Any], now: float) -> float:
    """Return when an event was written last, as far as it says so, in seconds since the epoch; *now* when it says nothing."""
    metadata, series = event["metadata"], event.get("series") or {}
    stamps = [
        metadata.get("creationTimestamp"), event.get("lastTimestamp"), event.get("eventTime"),
        series.get("lastObservedTime"), *(m.get("time") for m in metadata.get("managedFields") or ()),
    ]  # fmt: skip
    times = [_time(stamp, now) for stamp in stamps if stamp]
    return max((t for t in times if t <= now), default=now)


def _time(text: str, default: float) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return default
