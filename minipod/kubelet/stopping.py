"""Stop containers: Killing event, preStop inside the grace period, then the runtime's stop.

killContainer (K8S pkg/kubelet/kuberuntime/kuberuntime_container.go): grace shrinks by what preStop
took, and is never less than two seconds.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minipod.errors import MinipodError
from minipod.kubelet import hooks
from minipod.kubelet.rules.observed import Observed, State
from minipod.kubelet.rules.pods import Container, Pod
from minipod.kubelet.starting import pod_ip
from minipod.spec.ids import ContainerId, SandboxId

if TYPE_CHECKING:
    from minipod.kubelet.context import Context

logger = logging.getLogger(__name__)

MINIMUM_GRACE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """How to stop: *override* is the last word on grace (1 s for a pod whose object is gone)."""

    grace: float
    override: float | None = None
    message: str = ""


class Stopper:
    """Stops the containers of one pod."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def stop_container(
        self, pod: Pod, container: Container, container_id: str, ip: str, stop: Stop
    ) -> None:
        """Stop one; return when it is gone."""
        context = self._context
        message = stop.message or f"Stopping container {container.name}"
        context.recorder.normal(pod, "Killing", message, container)
        began = context.clock()
        if container.pre_stop is not None and stop.grace > 0 and stop.override is None:
            await self._pre_stop(pod, container, container_id, ip, stop.grace)
        left = max(stop.grace - (context.clock() - began), MINIMUM_GRACE)
        if stop.override is not None:
            left = stop.override
        await context.runtime.stop_container(ContainerId(container_id), left)

    async def stop_pod(self, pod: Pod, observed: Observed, stop: Stop) -> None:
        """Stop all containers in parallel, then the sandboxes."""
        by_name = {c.name: c for c in pod.all_containers}
        ip = pod_ip(pod, observed.sandbox, self._context)
        async with asyncio.TaskGroup() as group:
            for instance in observed.containers:
                if instance.state is State.EXITED:
                    continue
                container = by_name.get(instance.name, Container(name=instance.name))
                group.create_task(self.stop_container(pod, container, instance.id, ip, stop))
        for sandbox in observed.sandboxes:
            if sandbox.ready:
                await self._context.runtime.stop_pod_sandbox(SandboxId(sandbox.id))

    async def shorten(self, observed: Observed, grace: float) -> None:
        """A second delete with a smaller grace period: the runtime shortens the stop under way."""
        for instance in observed.containers:
            if instance.state is State.RUNNING:
                await self._context.runtime.stop_container(ContainerId(instance.id), grace)

    async def _pre_stop(
        self, pod: Pod, container: Container, container_id: str, ip: str, grace: float
    ) -> None:
        assert container.pre_stop is not None
        runtime = self._context.runtime
        try:
            async with asyncio.timeout(grace):
                await hooks.run(container.pre_stop, container, container_id, ip, runtime)
        except TimeoutError:
            logger.info("preStop of %s took longer than %ss", container.name, grace)
        except MinipodError as error:
            message = f"PreStopHook failed: {error.message}"
            self._context.recorder.warning(pod, "FailedPreStopHook", message, container)
