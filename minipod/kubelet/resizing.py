"""In-place resize: containers whose cpu or memory changed in the spec get new limits while they run (KEP-1287).

    more for the pod:  pod cgroup, then containers        less:  containers, then pod cgroup

A container whose resizePolicy says RestartContainer for what changed is stopped instead: its next instance starts with the new
amounts. What runs with which limits is in the runtime's records, so a restarted kubelet compares, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.errors import MinipodError
from minipod.kubelet.rules import qos
from minipod.kubelet.stopping import Stop
from minipod.runtime.service import ContainerState
from minipod.spec.ids import SandboxId

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.observed import Observed
    from minipod.kubelet.rules.pods import Container, Pod
    from minipod.kubelet.stopping import Stopper
    from minipod.runtime.service import ContainerStatus
    from minipod.spec.container import Resources

_FIELDS = {"cpu": ("cpu_shares", "cpu_quota"), "memory": ("memory_limit",)}


class Resizer:
    """The resizes of one pod."""

    def __init__(self, context: Context, stopper: Stopper) -> None:
        self._context = context
        self._stopper = stopper
        self._refused = ""  # the last refusal that was told

    async def resize(self, pod: Pod, observed: Observed, ip: str) -> None:
        """Bring what runs to the amounts of the spec, if the node has them."""
        wanted = {c.name: c for c in pod.all_containers}
        running = [
            status
            for status in await self._context.runtime.list_containers(pod.uid)
            if status.state is ContainerState.RUNNING and status.spec.name in wanted
        ]
        changed = [(s, wanted[s.spec.name]) for s in running if changes(s, wanted[s.spec.name])]
        if not changed or observed.sandbox is None or self._too_much(pod):
            return
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
        if not grows:
            await self._context.runtime.update_pod_sandbox_resources(sandbox, new)

    def _too_much(self, pod: Pod) -> bool:
        refusal = self._context.admission.resize(pod)
        words = "" if refusal is None else refusal.message
        if words and words != self._refused:
            self._context.recorder.warning(pod, "ResizeDeferred", f"Pod resize deferred: {words}")
        self._refused = words
        return bool(words)

    async def _container(
        self, pod: Pod, container: Container, status: ContainerStatus, ip: str
    ) -> None:
        names = changes(status, container)
        if any(container.resize_policy.get(name) == "RestartContainer" for name in names):
            message = f"Container {container.name} resize requires restart"
            stop = Stop(grace=float(pod.termination_grace_period_seconds), message=message)
            await self._stopper.stop_container(pod, container, status.id, ip, stop)
            return
        try:
            resources = qos.container_resources(container)
            await self._context.runtime.update_container_resources(status.id, resources)
        except (MinipodError, OSError) as error:
            message = f"Container {container.name}: {error}"
            self._context.recorder.warning(pod, "ResizeError", message, container)
        else:
            message = f"Resized container {container.name}: {', '.join(names)}"
            self._context.recorder.normal(pod, "ResizeCompleted", message, container)


def changes(status: ContainerStatus, container: Container) -> list[str]:
    """Which of cpu and memory the container runs with otherwise than its spec says."""
    old, new = status.spec.resources, qos.container_resources(container)
    return [
        name
        for name, fields in _FIELDS.items()
        if any(_value(old, f) != _value(new, f) for f in fields)
    ]


def _value(resources: Resources, field: str) -> int:
    """No quota and an unlimited one are the same."""
    value = getattr(resources, field)
    return -1 if value is None else int(value)


def _at_least(new: int | None, old: int | None) -> bool:
    if new is None or new < 0:
        return True
    return old is not None and old >= 0 and new >= old
