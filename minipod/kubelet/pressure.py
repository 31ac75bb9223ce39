"""What the node is short of: the signals of eviction, their thresholds, the node conditions that follow (K8S pkg/kubelet/eviction).

    memory.available               MemAvailable of the machine
    allocatableMemory.available    what is reserved for pods, less the working sets of all of them
    nodefs.available, .inodesFree  the file system of the state directory: images, containers, emptyDirs

Owns the thresholds, which are settings of the instance, and since when a condition holds: it stays for `eviction_transition` seconds
after the last sign of it (eviction-pressure-transition-period), so that it does not flap.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minipod.kubelet.rules.admission import DISK_PRESSURE, MEMORY_PRESSURE
from minipod.kubelet.rules.eviction import DISK, INODES, MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minipod.aio.timers import Clock
    from minipod.kubelet.node import Machine
    from minipod.spec.instance import Instance

CONDITION = {MEMORY: MEMORY_PRESSURE, DISK: DISK_PRESSURE, INODES: DISK_PRESSURE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """One signal below its threshold, in bytes or inodes."""

    resource: str
    threshold: int
    available: int


class PressureGauge:
    """Reads the signals; `conditions` says what the node object shows."""

    def __init__(self, instance: Instance, machine: Machine, clock: Clock) -> None:
        self._instance = instance
        self._machine = machine
        self._clock = clock
        self._seen: dict[str, float] = {}  # condition -> when it was last true

    def conditions(self) -> tuple[str, ...]:
        """The conditions that hold now, by name."""
        now, kept = self._clock(), self._instance.eviction_transition
        return tuple(sorted(name for name, at in self._seen.items() if now - at < kept))

    def read(self, working_set: int) -> list[Shortage]:
        """Compare every signal with its threshold; *working_set* is that of all pods, in bytes."""
        found = [*self._memory(working_set), *self._disk()]
        for shortage in found:
            self._seen[CONDITION[shortage.resource]] = self._clock()
        return found

    def _memory(self, working_set: int) -> Iterator[Shortage]:
        limit = self._instance.eviction_memory
        for available in (
            memory_available(),
            self._machine.memory - self._machine.reserved_memory - working_set,
        ):
            if available < limit:
                yield Shortage(resource=MEMORY, threshold=limit, available=max(0, available))
                return

    def _disk(self) -> Iterator[Shortage]:
        info = os.statvfs(self._instance.state_dir)
        blocks = info.f_blocks * info.f_frsize * self._instance.eviction_disk // 100
        available = info.f_bavail * info.f_frsize
        if available < blocks:
            yield Shortage(resource=DISK, threshold=blocks, available=available)
        inodes = info.f_files * self._instance.eviction_inodes // 100
        if info.f_files and info.f_favail < inodes:
            yield Shortage(resource=INODES, threshold=inodes, available=info.f_favail)


def memory_available() -> int:
    """Bytes that new programs can get."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo has no MemAvailable")  # Linux has it since 3.14
