"""In-place resize: containers whose cpu or memory changed in the spec get new limits while they run (KEP-1287).

    more for the pod:  pod cgroup, then containers        less:  containers, then pod cgroup

A container whose resizePolicy says RestartContainer for what changed is stopped instead: its next instance starts with the new
amounts. What runs with which limits is in the runtime's records, so a restarted kubelet compares, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.errors import MinipodError
from minipod.kubelet.rules import qos
from minipod.kubelet.rules.amounts import changes
from minipod.kubelet.rules.quantity import binary
from minipod.kubelet.stopping import Stop
from minipod.runtime.service import ContainerState
from minipod.spec.ids import SandboxId

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.observed import Observed
    from minipod.kubelet.rules.pods import Container, Pod
    from minipod.kubelet.stopping import Stopper
    from minipod.runtime.service import ContainerStatus


class Resizer:
    """The resizes of one pod."""

    def __init__(self, context: Context, stopper: Stopper) -> None:
        self._context = context
        self._stopper = stopper
        self.error = ""  # why the last one is not complete

    async def resize(self, pod: Pod, observed: Observed, ip: str) -> bool:
        """Bring what runs to the amounts of *pod*, which the node has granted; False when that is to be tried again."""
        before, self.error = self.error, ""
        wanted = {c.name: c for c in pod.all_containers}
        running = [
            status
            for status in await self._context.runtime.list_containers(pod.uid)
            if status.state is ContainerState.RUNNING and status.spec.name in wanted
        ]
        changed = [(s, wanted[s.spec.name]) for s in running]
        changed = [(s, c) for s, c in changed if changes(s.spec.resources, c)]
        if not changed or observed.sandbox is None:
            return True
        sandbox = SandboxId(observed.sandbox.id)
        old = (await self._context.runtime.pod_sandbox_status(sandbox)).spec.pod_resources
        new = qos.pod_resources(pod)
        grows = _at_least(new.memory_limit, old.memory_limit) and _at_least(
            new.cpu_quota, old.cpu_quota
        )
        if grows:
            await self._context.runtime.update_pod_sandbox_resources(sandbox, new)
        for status, container in changed:
            await self._container(pod, container, status, ip)
        if not grows and not self.error:
            await self._context.runtime.update_pod_sandbox_resources(sandbox, new)
        if self.error and self.error != before:
            self._context.recorder.warning(pod, "ResizeError", self.error)
        return not self.error

    async def _container(
        self, pod: Pod, container: Container, status: ContainerStatus, ip: str
    ) -> None:
        names = changes(status.spec.resources, container)
        if any(container.resize_policy.get(name) == "RestartContainer" for name in names):
            message = f"Container {container.name} resize requires restart"
            stop = Stop(grace=float(pod.termination_grace_period_seconds), message=message)
            await self._stopper.stop_container(pod, container, status.id, ip, stop)
            return
        resources = qos.container_resources(container)
        if words := await self._too_small(status, resources.memory_limit):
            self.error = f"Container {container.name}: {words}"
            return
        try:
            await self._context.runtime.update_container_resources(status.id, resources)
        except (MinipodError, OSError) as error:
            self.error = f"Container {container.name}: {error}"
        else:
            message = f"Resized container {container.name}: {', '.join(names)}"
            self._context.recorder.normal(pod, "ResizeCompleted", message, container)

    async def _too_small(self, status: ContainerStatus, limit: int | None) -> str:
        """A limit below what is in use would kill the container (validateMemoryResizeAction)."""
        before = status.spec.resources.memory_limit
        if limit is None or (before is not None and limit >= before):
            return ""
        for one in await self._context.runtime.list_container_stats():
            if one.id == status.id and one.working_set > limit:
                return (
                    f"attempting to set container memory limit ({binary(limit)}) below current usage"
                    f" ({binary(one.working_set)})"
                )
        return ""


def _at_least(new: int | None, old: int | None) -> bool:
    if new is None or new < 0:
        return True
    return old is not None and old >= 0 and new >= old
