"""What collectors want to know of a cgroup beyond `Hierarchy.stats`: kinds of memory, kinds of CPU time, throttling.

The keys are ours; v1's and v2's files are told apart here (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, and the
cpuacct and cpu controllers'). What this machine can't tell is left out. Synchronous; a file that is gone is a FileNotFoundError.
"""

from __future__ import annotations

from typing import Final

from minipod.cgroups.files import read
from minipod.cgroups.hierarchy import Hierarchy, Tree

# key -> line of memory.stat (v1: with all below)
_MEMORY_V1: Final = {
    "rss": "total_rss", "cache": "total_cache", "mapped": "total_mapped_file", "swap": "total_swap",
    "faults": "total_pgfault", "major_faults": "total_pgmajfault",
}  # fmt: skip
_MEMORY_V2: Final = {
    "rss": "anon", "cache": "file", "mapped": "file_mapped", "faults": "pgfault", "major_faults": "pgmajfault",
}  # fmt: skip
# key -> line of cpu.stat, nanoseconds (or calls) for one of it
_CPU_V1: Final = {
    "periods": ("nr_periods", 1), "throttled": ("nr_throttled", 1), "throttled_ns": ("throttled_time", 1),
}  # fmt: skip
_CPU_V2: Final = {
    "user_ns": ("user_usec", 1000), "system_ns": ("system_usec", 1000), "periods": ("nr_periods", 1),
    "throttled": ("nr_throttled", 1), "throttled_ns": ("throttled_usec", 1000),
}  # fmt: skip


def details(hierarchy: Hierarchy, path: str) -> dict[str, int]:
    """Return what this machine tells of the cgroup at *path*, beside its stats: bytes, nanoseconds, numbers."""
    found: dict[str, int] = {}
    for tree in hierarchy.trees:
        if "memory" in tree.controllers:
            lines = _lines(tree, path, "memory.stat")
            wanted = _MEMORY_V2 if tree.unified else _MEMORY_V1
            found |= {key: lines[name] for key, name in wanted.items() if name in lines}
        if "cpu" in tree.controllers:
            lines = _lines(tree, path, "cpu.stat")
            for key, (name, unit) in (_CPU_V2 if tree.unified else _CPU_V1).items():
                if name in lines:
                    found[key] = lines[name] * unit
        if "cpuacct" in tree.controllers:
            found["user_ns"] = int(read(f"{tree.path(path)}/cpuacct.usage_user"))
            found["system_ns"] = int(read(f"{tree.path(path)}/cpuacct.usage_sys"))
    found["processes"] = len(hierarchy.procs(path))
    found["oom_kills"] = hierarchy.oom_kills(path)
    return found


def _lines(tree: Tree, path: str, name: str) -> dict[str, int]:
    words = (line.split() for line in read(f"{tree.path(path)}/{name}").decode().splitlines())
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2}
