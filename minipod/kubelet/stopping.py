"""Stop containers: Killing event, preStop inside the grace period, its turn, the runtime's stop.

killContainer (K8S pkg/kubelet/kuberuntime/kuberuntime_container.go): the grace period shrinks by
what preStop and the wait for a sidecar's turn took, and is never less than two seconds, or than
what was asked for where that is less (a pod whose object is gone: one second). A second delete with
less grace shortens whatever is under way: the preStop hook, the wait, the stop signal's time.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from minipod.errors import MinipodError
from minipod.kubelet import hooks
from minipod.kubelet.addresses import pod_ip
from minipod.kubelet.rules.observed import Observed, State
from minipod.kubelet.rules.ordering import waits_for
from minipod.kubelet.rules.pods import Container, Pod
from minipod.spec.ids import ContainerId, SandboxId

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from minipod.kubelet.context import Context

logger = logging.getLogger(__name__)

MINIMUM_GRACE = 2.0
GONE_GRACE = 1.0  # the object is gone already: nobody waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """How to stop: seconds of grace, the least that a stop signal gets, the Killing event's words."""

    grace: float
    minimum: float = MINIMUM_GRACE
    message: str = ""


class Grace:
    """The grace period of a stop under way: it may only get shorter, by a second delete with less. Counts on the loop's clock."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + seconds
        self._over = asyncio.Event()
        self._timer = self._loop.call_at(self._ends_at, self._over.set)

    def left(self) -> float:
        """Seconds until it ends, never below zero."""
        return max(0.0, self._ends_at - self._loop.time())

    def shorten(self, seconds: float) -> bool:
        """End it in *seconds*, unless it ends earlier anyway; whether that changed anything."""
        ends_at = self._loop.time() + seconds
        if ends_at >= self._ends_at:
            return False
        self._timer.cancel()
        self._ends_at = ends_at
        self._timer = self._loop.call_at(ends_at, self._over.set)
        return True

    async def wait_for(self, what: Awaitable[Any]) -> bool:
        """Wait for *what* to its end (True), or cancel it when the period ends (False)."""
        task = asyncio.ensure_future(what)
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((task, over), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return True
            return False
        finally:
            for one in (task, over):
                one.cancel()
            await asyncio.gather(task, over, return_exceptions=True)

    def close(self) -> None:
        self._timer.cancel()


@dataclass(slots=True, eq=False, kw_only=True)
class _Stopping:
    """One container on its way out."""

    pod: Pod
    container: Container
    id: str
    ip: str  # of the pod, for a preStop hook
    message: str
    grace: Grace
    minimum: float
    before: tuple[asyncio.Event, ...] = ()  # the ends of those that go first
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    signalled: bool = False  # the runtime counts now

    @property
    def left(self) -> float:
        return max(self.grace.left(), self.minimum)


class Stopper:
    """Stops the containers of one pod."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._under_way: set[_Stopping] = set()

    async def stop_container(
        self, pod: Pod, container: Container, container_id: str, ip: str, stop: Stop
    ) -> None:
        """Stop one; return when it is gone."""
        await self._stop(_stopping(pod, container, container_id, ip, stop))

    async def stop_pod(self, pod: Pod, observed: Observed, stop: Stop) -> None:
        """Stop all containers, then the sandboxes."""
        await self.stop_containers(pod, observed, stop)
        for sandbox in observed.sandboxes:
            if sandbox.ready:
                await self._context.runtime.stop_pod_sandbox(SandboxId(sandbox.id))

    async def stop_containers(self, pod: Pod, observed: Observed, stop: Stop) -> None:
        """Stop all containers, sidecars last."""
        by_name = {c.name: c for c in pod.all_containers}
        ip = pod_ip(pod, observed.sandbox, self._context)
        alive = [i for i in observed.containers if i.state is not State.EXITED]
        turns = waits_for(pod, {i.name for i in alive})
        ways: dict[str, _Stopping] = {}
        for instance in alive:
            container = by_name.get(instance.name, Container(name=instance.name))
            if instance.state is not State.RUNNING:  # created: nothing in it could run a hook
                container = replace(container, pre_stop=None)
            ways[instance.id] = _stopping(pod, container, instance.id, ip, stop)
        async with asyncio.TaskGroup() as group:
            for instance in alive:
                first = (i.id for i in alive if i.name in turns[instance.name])
                ways[instance.id].before = tuple(ways[other].ended for other in first)
                group.create_task(self._stop(ways[instance.id]))

    async def shorten(self, stop: Stop) -> None:
        """A delete with less grace than what is under way."""
        for stopping in self._under_way:
            stopping.minimum = min(stopping.minimum, stop.minimum)
        signalled = [s for s in self._under_way if s.grace.shorten(stop.grace) and s.signalled]
        runtime = self._context.runtime
        # The runtime's second stop shortens its first, and returns with it: all at once, or each would wait for the one before.
        await asyncio.gather(
            *(runtime.stop_container(ContainerId(s.id), s.left) for s in signalled)
        )

    async def _stop(self, stopping: _Stopping) -> None:
        container = stopping.container
        words = stopping.message or f"Stopping container {container.name}"
        self._context.recorder.normal(stopping.pod, "Killing", words, container)
        self._under_way.add(stopping)
        try:
            if container.pre_stop is not None and stopping.grace.left() > 0:
                await self._pre_stop(stopping)
            for end in stopping.before:
                await stopping.grace.wait_for(end.wait())
            stopping.signalled = True
            await self._context.runtime.stop_container(ContainerId(stopping.id), stopping.left)
        finally:
            self._under_way.discard(stopping)
            stopping.grace.close()
            stopping.ended.set()

    async def _pre_stop(self, stopping: _Stopping) -> None:
        container, runtime = stopping.container, self._context.runtime
        assert container.pre_stop is not None
        hook = hooks.run(container.pre_stop, container, stopping.id, stopping.ip, runtime)
        try:
            if not await stopping.grace.wait_for(hook):
                logger.info("preStop of %s took the whole grace period", container.name)
        except MinipodError as error:
            message = f"PreStopHook failed: {error.message}"
            recorder = self._context.recorder
            recorder.warning(stopping.pod, "FailedPreStopHook", message, container)


def _stopping(pod: Pod, container: Container, container_id: str, ip: str, stop: Stop) -> _Stopping:
    """One container that is about to go: its grace period begins now."""
    return _Stopping(
        pod=pod,
        container=container,
        id=container_id,
        ip=ip,
        message=stop.message,
        grace=Grace(stop.grace),
        minimum=stop.minimum,
    )
