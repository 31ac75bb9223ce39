"""Events live for an hour after their last change (kube-apiserver's --event-ttl).

Owns one alarm at the earliest due time, and nobody polls: the watch says which events there are. Not here: how events
come to be (`kubelet.events`).
"""

from __future__ import annotations

import asyncio
import heapq
import json
from datetime import datetime
from typing import Any

from minipod.aio.timers import Alarm, Clock
from minipod.api.store import Store
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
            self._due.clear()
            for data in events:
                self._note(json.loads(data))
            try:
                async for change in self._store.watch("events", None, version):
                    if change.type == "DELETED":
                        self._due.pop((change.namespace, change.name), None)
                    else:
                        self._note(change.object)
            except Gone:
                continue  # too far behind: list again

    def _note(self, event: dict[str, Any]) -> None:
        metadata = event["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        now = self._clock()
        due = min(now, last_change(event, now)) + self._lifetime  # nobody's event lives for ever
        if key not in self._due:
            heapq.heappush(self._heap, (due, *key))
            self._wake.set()
        self._due[key] = due

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


def last_change(event: dict[str, Any], default: float) -> float:
    """Seconds since the epoch of an event's last change; *default* where it says none that can be read."""
    series = event.get("series") or {}
    stamps = (
        series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"),
        event["metadata"].get("creationTimestamp"),
    )  # fmt: skip
    text = next((stamp for stamp in stamps if stamp), None)
    try:
        return default if text is None else datetime.fromisoformat(text).timestamp()
    except ValueError:
        return default
