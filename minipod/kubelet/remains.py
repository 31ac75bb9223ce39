"""What a pod that is over has left on the node while its object stays, and what of it goes at once.

volumes       go, and with them what its emptyDirs hold (SyncTerminatedPod, K8S pkg/kubelet/kubelet.go)
containers    stay for their logs; those of a pod that had to go because the disk was short go, too: it would still be short,
              and the next pod had to go, whatever it uses (DeleteAllUnusedContainers, pkg/kubelet/container/container_gc.go)
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from minipod.kubelet.rules.eviction import DISK_RESOURCES
from minipod.spec.ids import ContainerId

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.eviction import Eviction
    from minipod.kubelet.rules.observed import Observed
    from minipod.kubelet.volumes import PodDirectory


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
