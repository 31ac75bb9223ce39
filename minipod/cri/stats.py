"""Statistics from the cgroups, read when somebody asks. What a hierarchy can't tell is left out."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from minipod.cgroups.hierarchy import Hierarchy
from minipod.cri.messages import Messages
from minipod.runtime.service import ContainerState, ContainerStatus, SandboxStatus


class Stats:
    """CPU rates are the difference to the last time that somebody asked."""

    def __init__(self, hierarchy: Hierarchy, state_dir: str) -> None:
        self._hierarchy = hierarchy
        self._state_dir = state_dir
        self._last: dict[str, tuple[int, int]] = {}  # id -> monotonic ns, cpu ns

    async def container(self, pb: Messages, status: ContainerStatus) -> Any:
        """ContainerStats of one container; without counters when it does not run."""
        counters = await asyncio.to_thread(self._read, status)
        now = time.time_ns()
        attributes = pb.ContainerAttributes(
            id=status.id,
            metadata=pb.ContainerMetadata(name=status.spec.name, attempt=status.spec.attempt),
            labels=status.spec.labels,
            annotations=status.spec.annotations,
        )
        return pb.ContainerStats(
            attributes=attributes,
            cpu=self._cpu(pb, status.id, counters, now),
            memory=self._memory(pb, counters, now),
            writable_layer=pb.FilesystemUsage(
                timestamp=now,
                fs_id=pb.FilesystemIdentifier(mountpoint=self._state_dir),
                used_bytes=pb.UInt64Value(value=counters["disk"]),
                inodes_used=pb.UInt64Value(value=counters["inodes"]),
            ),
        )

    async def sandbox(
        self, pb: Messages, status: SandboxStatus, containers: list[ContainerStatus]
    ) -> Any:
        """PodSandboxStats: its containers, and their sums."""
        members = [await self.container(pb, c) for c in containers]
        now, metadata = time.time_ns(), status.spec.metadata
        pids = await asyncio.to_thread(
            lambda: sum(len(self._hierarchy.procs(c.cgroup)) for c in containers if c.cgroup)
        )

        def total(part: str, field: str) -> Any:
            return pb.UInt64Value(
                value=sum(getattr(getattr(m, part), field).value for m in members)
            )

        return pb.PodSandboxStats(
            attributes=pb.PodSandboxAttributes(
                id=status.id,
                metadata=pb.PodSandboxMetadata(
                    name=metadata.name, uid=metadata.uid, namespace=metadata.namespace,
                    attempt=metadata.attempt,
                ),
                labels=status.spec.labels,
                annotations=status.spec.annotations,
            ),
            linux=pb.LinuxPodSandboxStats(
                cpu=pb.CpuUsage(
                    timestamp=now,
                    usage_core_nano_seconds=total("cpu", "usage_core_nano_seconds"),
                    usage_nano_cores=total("cpu", "usage_nano_cores"),
                ),
                memory=pb.MemoryUsage(
                    timestamp=now,
                    working_set_bytes=total("memory", "working_set_bytes"),
                    usage_bytes=total("memory", "usage_bytes"),
                ),
                process=pb.ProcessUsage(timestamp=now, process_count=pb.UInt64Value(value=pids)),
                containers=members,
            ),
        )  # fmt: skip

    def _read(self, status: ContainerStatus) -> dict[str, int]:
        counters = {"disk": 0, "inodes": 0}
        if status.state is ContainerState.RUNNING:
            try:
                counters |= self._hierarchy.stats(status.cgroup)
            except FileNotFoundError:
                pass  # it has ended meanwhile
        return counters | disk_usage(f"{self._state_dir}/containers/{status.id}/upper")

    def _cpu(self, pb: Messages, key: str, counters: dict[str, int], now: int) -> Any:
        used = counters.get("cpu_ns")
        if used is None:
            return pb.CpuUsage(timestamp=now)
        at = time.monotonic_ns()
        then, before = self._last.get(key, (at, used))
        self._last[key] = at, used
        rate = (used - before) * 1_000_000_000 // (at - then) if at > then else 0
        return pb.CpuUsage(
            timestamp=now,
            usage_core_nano_seconds=pb.UInt64Value(value=used),
            usage_nano_cores=pb.UInt64Value(value=max(0, rate)),
        )

    def _memory(self, pb: Messages, counters: dict[str, int], now: int) -> Any:
        return pb.MemoryUsage(
            timestamp=now,
            **{
                field: pb.UInt64Value(value=counters[name])
                for field, name in (("working_set_bytes", "working_set"), ("usage_bytes", "memory"))
                if name in counters
            },
        )

    def forget(self, key: str) -> None:
        """The container is gone."""
        self._last.pop(key, None)


def disk_usage(path: str) -> dict[str, int]:
    """Return the bytes and inodes below *path* ("disk", "inodes"); 0 when it is not there. Runs in a thread."""
    disk = inodes = 0
    for directory, names, files in os.walk(path):
        for name in (*names, *files):
            try:
                info = os.lstat(f"{directory}/{name}")
            except FileNotFoundError:
                continue
            disk += info.st_blocks * 512
            inodes += 1
    return {"disk": disk, "inodes": inodes}
