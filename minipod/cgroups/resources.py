"""Limits as files: which value goes into which file of which controller. Pure.

Sources: kernel documentation cgroup-v1/*.rst and cgroup-v2.rst; the weight formula is that of newer runc and crun
(kubelet-rules 1.15), which maps 1 CPU to 100 as the kernel's default does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from minipod.spec.container import Resources

SHARES_MIN, SHARES_MAX = 2, 262144


@dataclass(frozen=True, slots=True)
class Setting:
    """Write *value* into *file*; an *optional* one may be missing in this kernel."""

    controller: str
    file: str
    value: str
    optional: bool = False


def cpu_weight(shares: int) -> int:
    """Return v2's cpu.weight (1..10000) for v1's cpu.shares (2..262144)."""
    if shares == 0:
        return 0
    if shares <= SHARES_MIN:
        return 1
    if shares >= SHARES_MAX:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612.0 - 7.0 / 34.0))


def v1_settings(resources: Resources) -> list[Setting]:
    """Return what v1 hierarchies are told."""
    settings = []
    if resources.cpu_shares is not None:
        settings.append(Setting("cpu", "cpu.shares", str(resources.cpu_shares)))
    if resources.cpu_period is not None:
        settings.append(
            Setting("cpu", "cpu.cfs_period_us", str(resources.cpu_period), optional=True)
        )
    if resources.cpu_quota is not None:
        settings.append(Setting("cpu", "cpu.cfs_quota_us", str(resources.cpu_quota), optional=True))
    if resources.memory_limit is not None:
        settings.append(Setting("memory", "memory.limit_in_bytes", str(resources.memory_limit)))
    return [*settings, *_of_both(resources, "limit_in_bytes")]


def v2_settings(resources: Resources) -> list[Setting]:
    """Return what the unified hierarchy is told."""
    settings = []
    if resources.cpu_shares is not None:
        settings.append(Setting("cpu", "cpu.weight", str(cpu_weight(resources.cpu_shares))))
    if resources.cpu_quota is not None:
        quota = "max" if resources.cpu_quota < 0 else str(resources.cpu_quota)
        settings.append(Setting("cpu", "cpu.max", f"{quota} {resources.cpu_period or 100000}"))
    if resources.memory_limit is not None:
        settings.append(Setting("memory", "memory.max", str(resources.memory_limit)))
        # Without it swap would carry what the limit refuses; v1 limits memory alone as Kubernetes does.
        settings.append(Setting("memory", "memory.swap.max", "0", optional=True))
    if resources.oom_group:
        settings.append(Setting("memory", "memory.oom.group", "1", optional=True))
    settings += _of_both(resources, "max")
    settings += [Setting(f.split(".")[0], f, v) for f, v in resources.unified.items()]
    return settings


def _of_both(resources: Resources, hugetlb: str) -> list[Setting]:
    """Return what both versions are told in the same words, but for the ending of hugetlb's files."""
    settings = []
    if resources.pids_limit is not None:
        settings.append(Setting("pids", "pids.max", str(resources.pids_limit)))
    if resources.cpuset_cpus:
        settings.append(Setting("cpuset", "cpuset.cpus", resources.cpuset_cpus))
    if resources.cpuset_mems:
        settings.append(Setting("cpuset", "cpuset.mems", resources.cpuset_mems))
    settings += [
        Setting("hugetlb", f"hugetlb.{size}.{hugetlb}", str(limit))
        for size, limit in resources.hugepage_limits.items()
    ]
    return settings
