"""Stop containers: Killing event, preStop inside the grace period, its turn, the runtime's stop.

killContainer (K8S pkg/kubelet/kuberuntime/kuberuntime_container.go): the grace period shrinks by
what preStop and the wait for a sidecar's turn took, and is never less than two seconds, or than
what was asked for where that is less (a pod whose object is gone: one second). A second delete with
less grace shortens whatever is under way: the preStop hook, the wait, the stop signal's time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from minipod.errors import MinipodError
from minipod.kubelet import hooks
from minipod.kubelet.addresses import pod_ip
from minipod.kubelet.grace import Grace
from minipod.kubelet.rules.observed import Observed, State
from minipod.kubelet.rules.ordering import waits_for
from minipod.kubelet.rules.pods import Container, Pod
from minipod.spec.ids import ContainerId, SandboxId

if TYPE_CHECKING:
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


@dataclass(slots=True, eq=False)
class _Stopping:
    """One container on its way out."""

    container: Container
    id: str
    grace: Grace
    minimum: float
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
        made = _Stopping(container, container_id, Grace(stop.grace), stop.minimum)
        await self._stop(pod, made, ip, stop.message, ())

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
        ends = {i.id: asyncio.Event() for i in alive}
        async with asyncio.TaskGroup() as group:
            for instance in alive:
                container = by_name.get(instance.name, Container(name=instance.name))
                if instance.state is not State.RUNNING:  # created: nothing in it could run a hook
                    container = replace(container, pre_stop=None)
                made = _Stopping(container, instance.id, Grace(stop.grace), stop.minimum)
                before = [ends[i.id] for i in alive if i.name in turns[instance.name]]
                group.create_task(
                    self._stop_in_turn(pod, made, ip, stop.message, before, ends[instance.id])
                )

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

    async def _stop_in_turn(
        self,
        pod: Pod,
        made: _Stopping,
        ip: str,
        message: str,
        before: Iterable[asyncio.Event],
        end: asyncio.Event,
    ) -> None:
        try:
            await self._stop(pod, made, ip, message, before)
        finally:
            end.set()

    async def _stop(
        self,
        pod: Pod,
        made: _Stopping,
        ip: str,
        message: str,
        before: Iterable[asyncio.Event],
    ) -> None:
        container = made.container
        words = message or f"Stopping container {container.name}"
        self._context.recorder.normal(pod, "Killing", words, container)
        self._under_way.add(made)
        try:
            if container.pre_stop is not None and made.grace.left() > 0:
                await self._pre_stop(pod, made, ip)
            for end in before:
                await made.grace.wait_for(end.wait())
            made.signalled = True
            await self._context.runtime.stop_container(ContainerId(made.id), made.left)
        finally:
            self._under_way.discard(made)
            made.grace.close()

    async def _pre_stop(self, pod: Pod, made: _Stopping, ip: str) -> None:
        container = made.container
        assert container.pre_stop is not None
        hook = hooks.run(container.pre_stop, container, made.id, ip, self._context.runtime)
        try:
            if not await made.grace.wait_for(hook):
                logger.info("preStop of %s took the whole grace period", container.name)
        except MinipodError as error:
            message = f"PreStopHook failed: {error.message}"
            self._context.recorder.warning(pod, "FailedPreStopHook", message, container)
