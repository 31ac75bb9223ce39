"""What of a pod the node need not keep while its object is there.

Of a living one: instances beyond the last two of a container, with their logs, and old sandboxes. Of one that is over:

volumes       go, and with them what its emptyDirs hold (SyncTerminatedPod, K8S pkg/kubelet/kubelet.go)
containers    stay for their logs; those of a pod that had to go because the disk was short go, too: it would still be short,
              and the next pod had to go, whatever it uses (DeleteAllUnusedContainers, pkg/kubelet/container/container_gc.go)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from minipod.kubelet import logs
from minipod.kubelet.rules.eviction import DISK_RESOURCES
from minipod.kubelet.translate import pod_log_directory
from minipod.spec.ids import ContainerId, SandboxId

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.eviction import Eviction
    from minipod.kubelet.rules.observed import Observed
    from minipod.kubelet.rules.pods import Pod
    from minipod.kubelet.termination import Messages
    from minipod.kubelet.volumes import PodDirectory

_KEPT_INSTANCES = 2  # per container: the newest and the one before, for its log


class Remains:
    """One pod's; `cleared` when nothing more will go."""

    def __init__(self, context: Context, directory: PodDirectory) -> None:
        self._context = context
        self._directory = directory
        self.cleared = False

    async def clear(self, observed: Observed, eviction: Eviction | None) -> None:
        """Remove what the pod, which is over, needs no more. Idempotent; does nothing while something of it is alive."""
        if self.cleared or observed.anything_alive:
            return
        await asyncio.to_thread(self._directory.remove_volumes)
        if eviction is not None and eviction.resource in DISK_RESOURCES:
            for container in observed.containers:
                await self._context.runtime.remove_container(ContainerId(container.id))
        self.cleared = True


async def prune(context: Context, messages: Messages, pod: Pod, observed: Observed) -> None:
    """Remove what a living pod has too many of."""
    instance = context.instance
    kept_sandboxes = {observed.sandboxes[0].id} if observed.sandboxes else set()
    for container in pod.all_containers:
        instances = observed.instances(container.name)
        kept_sandboxes |= {i.sandbox_id for i in instances[:_KEPT_INSTANCES]}
        for old in instances[_KEPT_INSTANCES:]:
            await context.runtime.remove_container(ContainerId(old.id))
            messages.forget(old.id)
            directory = f"{pod_log_directory(instance.log_dir, pod)}/{container.name}"
            logs.remove(directory, instance.log_link_dir, pod, old)
    for sandbox in observed.sandboxes:
        if sandbox.id not in kept_sandboxes:
            await context.runtime.remove_pod_sandbox(SandboxId(sandbox.id))
