"""What the node and its containers use, for the API's metrics: read from /proc and from the containers' cgroups."""

from __future__ import annotations

import asyncio
import os
import time

from minipod.apiserver.metrics import Sample, Usage
from minipod.cgroups.hierarchy import Hierarchy
from minipod.runtime.runtime import Runtime
from minipod.runtime.service import ContainerState


class NodeUsage:
    """See `minipod.apiserver.metrics.UsageSource`."""

    def __init__(self, runtime: Runtime, hierarchy: Hierarchy) -> None:
        self._runtime = runtime
        self._hierarchy = hierarchy

    async def sample(self) -> Sample:
        pods = {s.id: s.spec.metadata.uid for s in await self._runtime.list_pod_sandboxes()}
        running = [
            (pods.get(c.sandbox_id, ""), c.spec.name, c.cgroup)
            for c in await self._runtime.list_containers()
            if c.state is ContainerState.RUNNING
        ]
        return await asyncio.to_thread(self._read, running)

    def _read(self, running: list[tuple[str, str, str]]) -> Sample:
        at = time.monotonic()
        found = {}
        for uid, name, cgroup in running:
            try:
                stats = self._hierarchy.stats(cgroup)
            except FileNotFoundError:
                continue  # it has ended meanwhile
            found[uid, name] = Usage(stats.get("cpu_ns", 0), stats.get("working_set", 0))
        return Sample(at=at, node=Usage(node_cpu(), node_memory()), containers=found)


def node_cpu() -> int:
    """Return the CPU time that all processors were busy since boot, in nanoseconds (proc(5), stat; guests are part of user)."""
    with open("/proc/stat", encoding="ascii") as f:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(
            int, f.readline().split()[1:9]
        )
    ticks = user + nice + system + irq + softirq + steal
    return ticks * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def interfaces(pid: int) -> dict[str, tuple[int, ...]]:
    """Return the counters of each interface in the network namespace of *pid*, in the order of proc(5), net/dev."""
    found = {}
    with open(f"/proc/{pid}/net/dev", encoding="ascii") as f:
        for line in f.readlines()[2:]:
            name, _, counts = line.partition(":")
            found[name.strip()] = tuple(map(int, counts.split()))
    return found


def node_memory() -> int:
    """Return the memory that is not available to new programs, in bytes."""
    with open("/proc/meminfo", encoding="ascii") as f:
        fields = {line.split(":")[0]: int(line.split()[1]) for line in f}
    return (fields["MemTotal"] - fields["MemAvailable"]) * 1024
