"""Which execs run, in memory that outlives the supervisor: <run_dir>/execs, mapped and shared.

An exec is the one process of ours that nobody may adopt: its client spoke to the supervisor that died. So the next one ends it, and
must know it, pid and start time, from the containers' own processes, which may look the same (in the host's pid namespace also their
orphans are our children). A record of it in a file would cost every exec probe five system calls; a slot of a shared page costs none,
and kill -9 of its writer loses nothing of it: the page is the file's.

By the short way the kernel itself writes the pid there, before the process runs (`process.clone_arguments`), and when it started is not
asked for: not before the slot was taken, and not long after.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Final

from minipod.linux import process
from minipod.supervisor import records

_SLOT: Final = struct.Struct(
    "=QQ"
)  # pid (0: free), start time or what it was when the slot was taken
_SIZE: Final = mmap.PAGESIZE  # bytes at first: 256 execs at once
_SOON: Final = 100  # clock ticks at most between the slot and its process' start


class ExecPage:
    """The page. Not for two writers: the supervisor's lock is its, too."""

    def __init__(self, path: str) -> None:
        """Open the page, or make it. Raises OSError."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size == 0:
                os.ftruncate(fd, _SIZE)
            self._map = mmap.mmap(fd, 0)
        finally:
            os.close(fd)  # the mapping has a copy of its own
        self._free = list(range(0, len(self._map), _SLOT.size))

    def take_all(self) -> list[tuple[int, int]]:
        """Return what is in it, as (pid, noted time), and forget it: what a predecessor left, before `add` is called."""
        found = [entry for entry in _SLOT.iter_unpack(self._map[:]) if entry[0]]
        self._map[:] = bytes(len(self._map))
        return found

    def reserve(self) -> int:
        """Take a slot for a process that starts now; return it."""
        return self.add(0, process.ticks())

    def add(self, pid: int, start_time: int) -> int:
        """Note a process; return its slot."""
        if not self._free:
            size = len(self._map)
            self._map.resize(2 * size)
            self._free = list(range(size, 2 * size, _SLOT.size))
        slot = self._free.pop()
        _SLOT.pack_into(self._map, slot, pid, start_time)
        return slot

    def address(self, slot: int) -> int:
        """Return where in memory the pid of *slot* is, until the next one is taken. A C int is enough: no other byte of it is ever set."""
        return process.address(self._map, slot)

    def remove(self, slot: int) -> None:
        """Its process has ended."""
        _SLOT.pack_into(self._map, slot, 0, 0)
        self._free.append(slot)

    def close(self) -> None:
        self._map.close()


def runs(pid: int, noted: int) -> bool:
    """Whether *pid* is still the process that was noted."""
    try:
        started = process.start_time(pid)
    except ProcessLookupError:
        return False
    return noted <= started <= noted + _SOON and records.alive(pid, started)
