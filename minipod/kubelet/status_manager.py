"""The status manager: the newest status of each pod, written at most once per pod and loop turn. One between two steps of a sync waits
a moment for the next: who watches sees it where the next step takes its time.

Owns the version of each pod's status; an older one never overwrites a newer one. The stored status
is compared first: what did not change is not written.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minipod.aio.workers import KeyedWorkers
from minipod.api import static
from minipod.errors import MinipodError, NotFound
from minipod.kubelet.rules import conditions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from minipod.api.store import Store
    from minipod.kubelet.rules.pods import Pod

logger = logging.getLogger(__name__)

_RETRY = 1.0  # seconds until a write that failed is tried again
_BETWEEN = 0.05  # seconds that a status between two steps waits for the next one


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    n: int
    namespace: str
    name: str
    status: Mapping[str, Any]


class StatusManager:
    """Pod statuses on their way to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: dict[str, _Version] = {}
        self._written: dict[str, int] = {}
        self._delayed: dict[str, asyncio.TimerHandle] = {}
        self._writers: KeyedWorkers[str, int] = KeyedWorkers(self._write, name="status")

    def set(self, pod: Pod, status: Mapping[str, Any], *, soon: bool = True) -> None:
        """Make *status* the newest; a copy equal to the last one is no new version. *soon* False: it may wait for the next."""
        last = self._latest.get(pod.uid)
        if last is None or last.status != status:
            n = 1 if last is None else last.n + 1
            self._latest[pod.uid] = _Version(
                n=n, namespace=pod.namespace, name=pod.name, status=status
            )
            if not soon and pod.uid not in self._delayed:
                loop = asyncio.get_running_loop()
                self._delayed[pod.uid] = loop.call_later(_BETWEEN, self._put, pod.uid)
            elif soon:
                self._put(pod.uid)
        elif soon and pod.uid in self._delayed:
            self._put(pod.uid)

    def _put(self, uid: str) -> None:
        """Have the newest version written now."""
        if (delayed := self._delayed.pop(uid, None)) is not None:
            delayed.cancel()
        if (version := self._latest.get(uid)) is not None:
            self._writers.put(uid, version.n)

    def get(self, uid: str) -> Mapping[str, Any] | None:
        """The newest status, written or not."""
        version = self._latest.get(uid)
        return None if version is None else version.status

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._latest.pop(uid, None)
        self._written.pop(uid, None)
        self._writers.drop(uid)
        if (delayed := self._delayed.pop(uid, None)) is not None:
            delayed.cancel()

    def write_again(self, uid: str) -> None:
        """The object was made anew: it has none of it."""
        self._written.pop(uid, None)
        self._put(uid)

    async def flush(self, uid: str) -> None:
        """Write the newest version now, before the pod's object goes."""
        version = self._latest.get(uid)
        if version is not None and version.n > self._written.get(uid, 0):
            await self._write(uid, version.n)

    async def close(self) -> None:
        for delayed in self._delayed.values():
            delayed.cancel()
        await self._writers.close()

    async def _write(self, uid: str, _n: int) -> None:
        await asyncio.sleep(0)  # what the same loop turn still changes belongs to this write
        version = self._latest.get(uid)
        if version is None or self._written.get(uid, 0) >= version.n:
            return

        def apply(raw: dict[str, Any]) -> dict[str, Any] | None:
            if static.node_uid(raw) != uid:
                return None
            stored = (raw.get("status") or {}).get("conditions") or ()
            ours = version.status.get("conditions") or ()
            status = {**version.status, "conditions": conditions.joined(ours, stored)}
            return None if raw.get("status") == status else {**raw, "status": status}

        namespace, name = version.namespace, version.name
        try:
            await self._store.mutate("pods", namespace, name, apply, subresource="status")
        except NotFound:
            return
        except MinipodError as error:
            logger.warning("status of %s_%s(%s) not written: %s", name, namespace, uid, error)
            asyncio.get_running_loop().call_later(_RETRY, self._put, uid)
            return
        self._written[uid] = version.n
