"""The node's heartbeat: its lease in kube-node-lease every ten seconds, its conditions when they change, and every five minutes
(KEP-589; pkg/kubelet/nodestatus/setters.go for the conditions' reasons and words).

Owns neither the node object's birth nor its static facts: that is `node`. A write that fails is logged and comes again with the next
beat.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from minipod.errors import AlreadyExists, MinipodError, NotFound
from minipod.kubelet.rules.render import micro_timestamp, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from minipod.aio.timers import Clock
    from minipod.api.store import Store

logger = logging.getLogger(__name__)

NAMESPACE = "kube-node-lease"
DURATION = 40  # seconds that a lease is good for (nodeLeaseDurationSeconds)
BEAT = DURATION / 4  # seconds between two renewals
REPORT = 300.0  # seconds between two reports of unchanged conditions (nodeStatusReportFrequency)

Object = dict[str, Any]

# type -> (reason, message) when all is well, and under pressure
WORDS = {
    "MemoryPressure": (
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
}


def conditions(pressure: Collection[str], old: list[Object], now: str) -> list[Object]:
    """Return the node's conditions, Ready last; *pressure* names those of WORDS that hold.

    Those of others are kept, a time of transition too while the status stays.
    """
    since = {c["type"]: (c["status"], c.get("lastTransitionTime", now)) for c in old}

    def condition(kind: str, status: str, reason: str, message: str) -> Object:
        before, when = since.get(kind, ("", now))
        return {
            "type": kind, "status": status, "lastHeartbeatTime": now,
            "lastTransitionTime": when if before == status else now, "reason": reason, "message": message,
        }  # fmt: skip

    made = []
    for kind, (good, bad) in WORDS.items():
        short = kind in pressure
        made.append(condition(kind, "True" if short else "False", *(bad if short else good)))
    made.append(condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"))
    ours = {c["type"] for c in made}
    return [*(c for c in old if c["type"] not in ours), *made]


class Heartbeat:
    """A root task of the kubelet."""

    def __init__(
        self, store: Store, name: str, pressure: Callable[[], tuple[str, ...]], clock: Clock
    ) -> None:
        self._store = store
        self._name = name
        self._pressure = pressure
        self._clock = clock
        # what the node object says, and since when
        self._told: tuple[tuple[str, ...], float] | None = None

    async def run(self) -> None:
        """Beat until cancelled, first in a while: who starts the kubelet calls `beat` before it says ready."""
        while True:
            await asyncio.sleep(BEAT)
            await self.beat()

    async def beat(self) -> None:
        """Say that the node is there, and how it is."""
        try:
            await self._report()
            await self._renew()
        except MinipodError as e:
            logger.warning("the heartbeat of node %s was not written: %s", self._name, e)

    async def _report(self) -> None:
        """Write the conditions if they changed, or were not written for long."""
        now, pressure = self._clock(), self._pressure()
        if self._told is not None and self._told[0] == pressure and now - self._told[1] < REPORT:
            return

        def change(node: Object) -> Object:
            status = node.get("status") or {}
            told = conditions(pressure, status.get("conditions") or [], timestamp(now) or "")
            return {**node, "status": {**status, "conditions": told}}

        await self._store.mutate("nodes", "", self._name, change, "status")
        self._told = pressure, now

    async def _renew(self) -> None:
        spec = {
            "holderIdentity": self._name,
            "leaseDurationSeconds": DURATION,
            "renewTime": micro_timestamp(self._clock()),
        }
        try:
            await self._store.mutate(
                "leases", NAMESPACE, self._name, lambda lease: {**lease, "spec": spec}
            )
        except NotFound:
            await self._create(spec)

    async def _create(self, spec: Object) -> None:
        node = await self._store.get("nodes", "", self._name)
        owner = {
            "apiVersion": "v1", "kind": "Node", "name": self._name, "uid": node["metadata"]["uid"],
        }  # fmt: skip
        lease = {
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self._name, "namespace": NAMESPACE, "ownerReferences": [owner]},
            "spec": spec,
        }  # fmt: skip
        try:
            await self._store.create("leases", NAMESPACE, lease)
        except AlreadyExists:
            return
