"""Static pods: the node runs what its manifest directory says, and the API shows mirrors of it.

    file appears  -> a worker runs the pod, a mirror object is made
    file changes  -> another uid: the old pod ends first, with its grace period, then the new one starts
    file goes     -> the pod ends, then its mirror goes
    mirror goes   -> it is made again: whoever wants the pod gone removes the file

Owns which static pods there are. Mirrors never get a worker (`sources` hands them here).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from minipod.api import static
from minipod.errors import AlreadyExists, Conflict, MinipodError, NotFound
from minipod.kubelet.rules.pods import Pod, compile_pod
from minipod.kubelet.rules.render import timestamp

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.manifests import Manifests

logger = logging.getLogger(__name__)

_Name = tuple[str, str]  # namespace, name
_RETRY = 1.0  # seconds until mirrors are tried again that the store did not take


class StaticPods:
    """*run_pod* starts a worker, *end_pod* begins its termination and is answered by `ended`."""

    def __init__(
        self,
        context: Context,
        manifests: Manifests,
        *,
        run_pod: Callable[[Pod], None],
        end_pod: Callable[[str], None],
    ) -> None:
        self._context = context
        self._manifests = manifests
        self._run_pod = run_pod
        self._end_pod = end_pod
        self._wanted: dict[_Name, Pod] = {}
        self._running: dict[_Name, Pod] = {}
        self._told: set[str] = set()  # errors that were told
        self._in_the_way: set[_Name] = set()  # of pods that were told to be where a mirror belongs
        self._mirrors: dict[_Name, dict[str, Any]] = {}
        self._changed = asyncio.Event()
        self._stale = True  # the directory has changed since it was read
        self._stopping = False
        self._all_gone = asyncio.Event()

    @property
    def pods(self) -> list[Pod]:
        """The pods that ought to run."""
        return list(self._wanted.values())

    def load(self, mirrors: list[dict[str, Any]]) -> None:
        """Read the directory for the first time. The mirrors in the store say what became of a pod."""
        for mirror in mirrors:
            self._mirrors[_name(mirror)] = mirror
        self._manifests.watch(self._directory_changed)
        self._read()
        for key, pod in self._wanted.items():
            mirror = self._mirrors.get(key, {})
            if mirror and static.mirrored(mirror) == pod.uid:
                self._wanted[key] = replace(pod, status=mirror.get("status") or {})
        self._changed.set()

    async def run(self) -> None:
        """Bring pods and mirrors to where they should be, at each change; until cancelled."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                try:
                    await self._sync()
                except MinipodError:
                    logger.exception("static pods")
                    self._again()
        finally:
            self._manifests.close()

    def _again(self) -> None:
        asyncio.get_running_loop().call_later(_RETRY, self._changed.set)

    async def stop(self) -> None:
        """End all of them, as if there were no files, and return when they and their mirrors are gone.

        They come back with the next start.
        """
        self._stopping = True
        self._wanted = {}
        self._changed.set()
        await self._all_gone.wait()

    def mirror_changed(self, kind: str, mirror: dict[str, Any]) -> None:
        """A mirror was written or is gone."""
        key = _name(mirror)
        if kind == "DELETED":
            self._mirrors.pop(key, None)
            self._changed.set()
            return
        self._mirrors[key] = mirror
        if mirror["metadata"].get("deletionTimestamp") or key not in self._running:
            self._changed.set()  # else it is our own status

    def ended(self, uid: str) -> None:
        """The worker of one has ended."""
        for key in [k for k, pod in self._running.items() if pod.uid == uid]:
            del self._running[key]
            self._changed.set()

    def _directory_changed(self) -> None:
        self._stale = True
        self._changed.set()

    def _read(self) -> None:
        if self._stopping or not self._stale:
            return
        self._stale = False
        pods, errors = self._manifests.read()
        seen = timestamp(self._context.clock())
        found = {}
        for raw in pods:
            known = self._wanted.get(_name(raw))
            if known is not None and known.uid == raw["metadata"]["uid"]:
                found[_name(raw)] = known
                continue
            raw["metadata"]["annotations"][static.SEEN] = seen
            found[_name(raw)] = compile_pod(raw)
        self._wanted = found
        for text in set(errors) - self._told:
            logger.error("static pod: %s", text)
            self._context.recorder.node("FailedValidation", text, kind="Warning")
        self._told = set(errors)

    async def _sync(self) -> None:
        self._read()
        for key, pod in list(self._running.items()):
            if self._wanted.get(key) is None or self._wanted[key].uid != pod.uid:
                self._end_pod(pod.uid)
        for key, pod in self._wanted.items():
            if key not in self._running:
                self._running[key] = pod
                self._run_pod(pod)
        for key in {*self._mirrors, *self._running}:
            await self._reflect(key)
        if self._stopping and not self._running and not self._mirrors:
            self._all_gone.set()

    async def _reflect(self, key: _Name) -> None:
        """Make, replace or remove one mirror."""
        pod, mirror = self._running.get(key), self._mirrors.get(key)
        wrong = mirror is not None and (
            pod is None
            or static.mirrored(mirror) != pod.uid
            or bool(mirror["metadata"].get("deletionTimestamp"))
        )
        if mirror is not None and wrong:
            await self._remove(mirror)
            mirror = None
        if pod is not None and mirror is None:
            await self._make(pod)

    async def _remove(self, mirror: dict[str, Any]) -> None:
        namespace, name = _name(mirror)
        with contextlib.suppress(NotFound, Conflict):
            await self._context.store.delete(
                "pods", namespace, name, grace_period=0, uid=mirror["metadata"]["uid"]
            )
        self._mirrors.pop((namespace, name), None)

    async def _make(self, pod: Pod) -> None:
        key = (pod.namespace, pod.name)
        metadata = dict(pod.raw["metadata"])
        metadata["annotations"] = {**metadata["annotations"], static.MIRROR: pod.uid}
        mirror = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod.raw["spec"]}
        try:
            made = await self._context.store.create(
                "pods", pod.namespace, {**mirror, "status": {"phase": "Pending"}}
            )
        except AlreadyExists:
            if key not in self._in_the_way:
                self._in_the_way.add(key)
                words = "pod %s/%s is in the way of the mirror of a static pod"
                logger.warning(words, pod.namespace, pod.name)
            self._again()  # nobody tells us when that one goes
            return
        self._in_the_way.discard(key)
        self._mirrors[key] = made
        self._context.statuses.write_again(pod.uid)


def _name(obj: dict[str, Any]) -> _Name:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
