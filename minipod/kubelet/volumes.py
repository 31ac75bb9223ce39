"""A pod's directory on the node: volumes, the managed hosts file, termination-log files.

    <state_dir>/pods/<uid>/volumes/kubernetes.io~empty-dir/<name>
                           etc-hosts
                           containers/<container>/<8 hex>         one termination log per instance

Owns emptyDir (disk and Memory) and the checks of hostPath. Invariant: removal unmounts first, and
never descends into a mount point that is still one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from typing import TYPE_CHECKING

from minipod.errors import FailedPrecondition
from minipod.kubelet.rules.quantity import whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from minipod.kubelet.rules.pods import Container, Pod, Raw

_EMPTY_DIR = "kubernetes.io~empty-dir"
_KINDS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


class PodDirectory:
    """The directory of one pod."""

    def __init__(self, state_dir: str, uid: str) -> None:
        self.path = f"{state_dir}/pods/{uid}"

    @property
    def hosts_path(self) -> str:
        return f"{self.path}/etc-hosts"

    def set_up_volumes(self, pod: Pod, memory_capacity: int) -> dict[str, str]:
        """Make what is missing; return host paths by volume name. Raises FailedPrecondition."""
        os.makedirs(f"{self.path}/volumes/{_EMPTY_DIR}", mode=0o750, exist_ok=True)
        return {v["name"]: self._set_up(pod, v, memory_capacity) for v in pod.volumes}

    def write_hosts(self, text: str) -> None:
        """Write the managed hosts file in place: it is bind-mounted, a rename would not be seen."""
        with open(
            os.open(self.hosts_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "w"
        ) as file:
            file.write(text)

    def new_termination_file(self, container: Container) -> str:
        """A fresh empty file, 0666 whatever the umask: any user of the container writes it."""
        directory = f"{self.path}/containers/{container.name}"
        os.makedirs(directory, mode=0o750, exist_ok=True)
        path = f"{directory}/{secrets.token_hex(4)}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.fchmod(fd, 0o666)
        finally:
            os.close(fd)
        return path

    def remove(self) -> None:
        """Unmount and remove everything. Idempotent; may block: call it in a thread."""
        for point in reversed(_mount_points_below(self.path)):
            from minipod.linux import flags, mount  # loads ctypes; only where there is a mount

            mount.umount2(point, flags.UmountFlag.MNT_DETACH)
        if _mount_points_below(self.path):
            raise FailedPrecondition(f"{self.path} still holds a mount")
        if os.path.isdir(self.path):
            shutil.rmtree(self.path)

    def _set_up(self, pod: Pod, volume: Raw, memory_capacity: int) -> str:
        name = volume["name"]
        try:
            if "hostPath" in volume:
                return check_host_path(volume["hostPath"])
            if "emptyDir" in volume:
                return self._empty_dir(pod, name, volume["emptyDir"] or {}, memory_capacity)
        except OSError as error:
            why = f"{error.filename}: {os.strerror(error.errno or 0).lower()}"
            raise mount_failure(name, why) from error
        except FailedPrecondition as error:
            raise mount_failure(name, error.message) from error
        kind = next((key for key in volume if key != "name"), "nothing")
        raise mount_failure(name, f"volume type {kind} is not supported")

    def _empty_dir(self, pod: Pod, name: str, source: Raw, memory_capacity: int) -> str:
        path = f"{self.path}/volumes/{_EMPTY_DIR}/{name}"
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o777)  # noqa: S103 - what emptyDir is
        medium = source.get("medium") or ""
        if medium == "Memory" and not os.path.ismount(path):
            from minipod.linux import flags, mount

            size = _memory_size(pod, source, memory_capacity)
            bits = flags.MountFlag.MS_NOSUID | flags.MountFlag.MS_NODEV
            mount.mount("tmpfs", path, "tmpfs", bits, f"size={size},mode=0777")
        elif medium not in ("", "Memory"):
            raise FailedPrecondition(f'unknown storage medium "{medium}"')
        return path


def mount_failure(volume: str, why: str) -> FailedPrecondition:
    """The kubelet's words for a volume that could not be set up."""
    return FailedPrecondition(f'MountVolume.SetUp failed for volume "{volume}" : {why}')


def check_host_path(source: Raw) -> str:
    """Check (and for ...OrCreate make) a hostPath; return its path. Raises FailedPrecondition."""
    path, kind = source["path"], source.get("type") or ""
    if not kind:
        if not os.path.lexists(path):
            os.makedirs(path, 0o755, exist_ok=True)  # as container runtimes do for a bind source
        return str(path)
    if kind == "DirectoryOrCreate" and not os.path.exists(path):
        os.makedirs(path, 0o755, exist_ok=True)
    elif kind == "FileOrCreate" and not os.path.exists(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    fits, words = _KINDS[kind]
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = 0
    if not fits(mode):
        raise FailedPrecondition(f"hostPath type check failed: {path} is not {words}")
    return str(path)


def _memory_size(pod: Pod, source: Raw, memory_capacity: int) -> int:
    """The least of sizeLimit, the pod's memory limit and what the node has."""
    sizes = [memory_capacity]
    if source.get("sizeLimit"):
        sizes.append(whole(source["sizeLimit"]))
    limits = [c.limits.get("memory") for c in pod.containers]
    if limits and all(limits):
        sizes.append(sum(whole(limit) for limit in limits))
    return min(size for size in sizes if size > 0)


def _mount_points_below(path: str) -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split(" ", 5)[4] for line in file]
    points = [
        p.encode("utf-8", "surrogateescape").decode("unicode_escape") if "\\" in p else p
        for p in points
    ]
    return sorted(p for p in points if p.startswith(f"{path}/"))
