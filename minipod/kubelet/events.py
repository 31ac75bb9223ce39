"""The event recorder: Kubernetes Event objects, repeated ones counted, written in batches off the
hot path.

Owns the counts of what it wrote. `record` only queues; one root task writes what gathered since the
last turn. An event is best effort: a write that fails is logged, never retried, never in anybody's
way.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minipod.errors import MinipodError, NotFound
from minipod.kubelet.rules.correlation import Correlator, Occurrence
from minipod.kubelet.rules.render import timestamp

if TYPE_CHECKING:
    from minipod.aio.timers import Clock
    from minipod.api.store import Store
    from minipod.kubelet.rules.pods import Container, Pod

logger = logging.getLogger(__name__)

_REMEMBERED = 4096
_GATHER = 0.1  # seconds: the events of a pod's start or end are one transaction, behind what somebody waits for


@dataclass(slots=True)
class _Queued:
    """What happened since the last write."""

    message: str
    first: float
    last: float
    count: int = 0


@dataclass(slots=True)
class _Written:
    name: str
    count: int


class EventRecorder:
    """Events of this kubelet."""

    def __init__(self, store: Store, *, node_name: str, clock: Clock) -> None:
        self._store = store
        self._node_name = node_name
        self._clock = clock
        self._correlator = Correlator()
        self._queue: dict[Occurrence, _Queued] = {}
        self._wake = asyncio.Event()
        self._written: OrderedDict[Occurrence, _Written] = OrderedDict()

    def normal(
        self, pod: Pod, reason: str, message: str, container: Container | None = None
    ) -> None:
        """Record what went as it should."""
        self._record(pod, "Normal", reason, message, container)

    def warning(
        self, pod: Pod, reason: str, message: str, container: Container | None = None
    ) -> None:
        """Record what somebody may have to look at."""
        self._record(pod, "Warning", reason, message, container)

    def node(self, reason: str, message: str, kind: str = "Normal") -> None:
        """Record an event of the node; its uid is its name, as the kubelet does it."""
        name = self._node_name
        self._put(
            Occurrence(
                namespace="default",
                kind="Node",
                name=name,
                uid=name,
                field_path="",
                type=kind,
                reason=reason,
                message=message,
            )
        )

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(_GATHER)
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write what waits."""
        batch, self._queue = self._queue, {}
        for what, queued in batch.items():
            try:
                await self._write(what, queued)
            except MinipodError as error:
                logger.warning("event %s of %s not written: %s", what.reason, what.name, error)

    def _record(
        self, pod: Pod, kind: str, reason: str, message: str, container: Container | None
    ) -> None:
        self._put(
            Occurrence(
                namespace=pod.namespace,
                kind="Pod",
                name=pod.name,
                uid=pod.uid,
                field_path="" if container is None else _field_path(container),
                type=kind,
                reason=reason,
                message=message,
            )
        )

    def _put(self, what: Occurrence) -> None:
        now = self._clock()
        correlated = self._correlator.correlate(what, now)
        if correlated is None:
            return
        counted, message = correlated
        queued = self._queue.setdefault(counted, _Queued(message, first=now, last=now))
        queued.message, queued.last = message, now
        queued.count += 1
        self._wake.set()

    async def _write(self, what: Occurrence, queued: _Queued) -> None:
        written = self._written.get(what)
        if written is not None:
            written.count += queued.count
            changed = {
                "count": written.count,
                "lastTimestamp": timestamp(queued.last),
                "message": queued.message,
            }
            try:
                await self._store.mutate(
                    "events", what.namespace, written.name, lambda event: {**event, **changed}
                )
            except NotFound:  # it has expired: begin anew
                del self._written[what]
            else:
                self._written.move_to_end(what)
                return
        name = f"{what.name}.{int(queued.first * 1e9):x}{len(self._written) & 0xFFF:03x}"
        await self._store.create("events", what.namespace, self._event(what, name, queued))
        self._written[what] = _Written(name, queued.count)
        if len(self._written) > _REMEMBERED:
            self._written.popitem(last=False)

    def _event(self, what: Occurrence, name: str, queued: _Queued) -> dict[str, Any]:
        involved: dict[str, Any] = {"apiVersion": "v1", "kind": what.kind, "name": what.name}
        if what.kind != "Node":
            involved["namespace"] = what.namespace
        involved["uid"] = what.uid
        if what.field_path:
            involved["fieldPath"] = what.field_path
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": what.namespace},
            "involvedObject": involved,
            "reason": what.reason,
            "message": queued.message,
            "source": {"component": "kubelet", "host": self._node_name},
            "firstTimestamp": timestamp(queued.first),
            "lastTimestamp": timestamp(queued.last),
            "count": queued.count,
            "type": what.type,
            "reportingComponent": "kubelet",
            "reportingInstance": self._node_name,
        }


def _field_path(container: Container) -> str:
    part = container.cause.partition("[")[0]
    return f"{part}{{{container.name}}}"
