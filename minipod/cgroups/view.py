"""What a cgroup is limited to, and uses: for people. cgroupspy reads the v1 trees, by direct Node objects (its own trees walk
the whole machine); the unified tree is a few files.
"""

from __future__ import annotations

import os

from minipod.cgroups.files import read
from minipod.cgroups.hierarchy import Hierarchy, Tree


def view(hierarchy: Hierarchy, path: str) -> dict[str, str]:
    """Return name -> value of what this machine can tell about the cgroup at *path*."""
    found: dict[str, str] = {}
    for tree in hierarchy.trees:
        found |= _unified(tree.path(path)) if tree.unified else _v1(tree, path)
    return found


def _v1(tree: Tree, path: str) -> dict[str, str]:
    from cgroupspy.nodes import Node  # 13 ms, and only here

    (name,) = tree.controllers if len(tree.controllers) == 1 else ("",)
    if name not in ("memory", "cpu"):
        return {}
    node = Node(name.encode(), parent=Node(os.path.dirname(tree.mountpoint).encode()))
    for part in path.split("/"):
        node = Node(part.encode(), parent=node)
    controller = node.controller
    if name == "memory":
        limit = controller.limit_in_bytes
        shown = "none" if limit > 1 << 60 else f"{limit / 2**20:.0f} MiB"
        return {
            "memory in use": f"{controller.usage_in_bytes / 2**20:.1f} MiB",
            "memory limit": shown,
        }
    quota = controller.cfs_quota_us
    limit_cpu = (
        "none" if quota is None or quota < 0 else f"{quota / controller.cfs_period_us:g} cpu"
    )
    return {"cpu shares": str(controller.shares), "cpu limit": limit_cpu}


def _unified(directory: str) -> dict[str, str]:
    names = {"memory.max": "memory limit", "memory.current": "memory in use", "cpu.max": "cpu limit",
             "cpu.weight": "cpu weight", "pids.max": "pids limit", "pids.current": "pids"}  # fmt: skip
    return {
        label: read(f"{directory}/{name}").decode().strip()
        for name, label in names.items()
        if os.path.exists(f"{directory}/{name}")
    }
