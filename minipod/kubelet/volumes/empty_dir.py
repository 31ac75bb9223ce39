"""emptyDir: a directory, a tmpfs of a size, or huge pages (K8S pkg/volume/emptydir).

The size of one on disk is watched, not enforced by the file system: see `kubelet.eviction`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from minipod.errors import FailedPrecondition
from minipod.kubelet.rules.quantity import whole

if TYPE_CHECKING:
    from minipod.kubelet.rules.pods import Pod, Raw


def make(path: str, pod: Pod, source: Raw, memory_capacity: int, owner: int = 0) -> None:
    """Make what is missing at *path*; *owner* of what has a file system of its own. Raises FailedPrecondition, OSError."""
    os.makedirs(path, exist_ok=True)
    medium = source.get("medium") or ""
    if medium and not os.path.ismount(path):
        _mount(path, medium, pod, source, memory_capacity)
        os.chown(path, owner, owner)
    if os.stat(path).st_mode & 0o777 != 0o777:
        os.chmod(path, 0o777)  # noqa: S103 - what emptyDir is


def _mount(path: str, medium: str, pod: Pod, source: Raw, memory_capacity: int) -> None:
    from minipod.linux import flags, mount  # loads ctypes; only where there is something to mount

    bits = flags.MountFlag.MS_NOSUID | flags.MountFlag.MS_NODEV
    if medium == "Memory":
        size = memory_size(pod, source, memory_capacity)
        mount.mount("tmpfs", path, "tmpfs", bits, f"size={size},mode=0777")
    elif medium == "HugePages" or medium.startswith("HugePages-"):
        mount.mount("nodev", path, "hugetlbfs", bits, f"pagesize={_page_size(pod, medium)}")
    else:
        raise FailedPrecondition(f'unknown storage medium "{medium}"')


def memory_size(pod: Pod, source: Raw, memory_capacity: int) -> int:
    """The least of sizeLimit, the pod's memory limit and what the node has."""
    sizes = [memory_capacity]
    if source.get("sizeLimit"):
        sizes.append(whole(source["sizeLimit"]))
    limits = [c.limits.get("memory") for c in pod.containers]
    if limits and all(limits):
        sizes.append(sum(whole(limit) for limit in limits))
    return min(size for size in sizes if size > 0)


def _page_size(pod: Pod, medium: str) -> int:
    """The size that is named, or the only one that the pod asks for."""
    named = medium.partition("-")[2]
    sizes = {named} if named else {
        name.removeprefix("hugepages-")
        for container in pod.all_containers
        for name in container.limits
        if name.startswith("hugepages-")
    }  # fmt: skip
    if len(sizes) != 1:
        raise FailedPrecondition("medium HugePages needs exactly one size of huge pages in limits")
    return whole(sizes.pop())
