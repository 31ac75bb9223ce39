"""Entry point of the prober's process: the kubelet's prober, with its exec over the runtime. Imports nothing of the daemon.

It runs in a cgroup of its own with a high cpu weight: it needs little, and that at once, however busy pods and daemon are. A nice value
alone weighs only against what is in the same cgroup.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from minipod.cgroups.hierarchy import of_node
from minipod.late_inspect import later
from minipod.spec.container import Resources
from minipod.spec.instance import Instance

if TYPE_CHECKING:
    from minipod.kubelet.probe.exec import ExecRunner

# For asyncio there is no TLS then: only HTTPS probes need it, which load it themselves (`probe.streams`).
sys.modules["ssl"] = None  # type: ignore[assignment]
with later():
    from minipod.kubelet.probe import prober

del sys.modules["ssl"]

CPU_SHARES = 16 * 1024  # as much as pods with requests for 16 processors


def main(instance: Instance) -> None:
    """Probe until SIGTERM."""
    hierarchy = of_node(instance.run_dir)
    cgroup = f"{instance.cgroup_root}/_prober"
    hierarchy.create(cgroup, Resources(cpu_shares=CPU_SHARES))
    hierarchy.attach(cgroup, 0)
    prober.main(instance, LateExec(instance))


class LateExec:
    """An ExecRunner over the runtime, loaded when the first command is to run: nodes without exec probes save 1.5 MB."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._runner: ExecRunner | None = None

    async def exec_sync(
        self, container_id: str, command: tuple[str, ...], timeout: float
    ) -> tuple[int, bytes]:
        """See `ExecRunner`."""
        if self._runner is None:
            from minipod.runtime.probe_exec import ProbeExec

            self._runner = ProbeExec(self._instance)
        return await self._runner.exec_sync(container_id, command, timeout)
