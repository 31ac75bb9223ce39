"""A pod's directory on the node: volumes, the managed hosts file, termination-log files.

    <state_dir>/pods/<uid>/volumes/kubernetes.io~<plugin>/<name>
                           etc-hosts
                           userns                             the pod's ids, with hostUsers: false
                           containers/<container>/<8 hex>         one termination log per instance
    <run_dir>/pods/<uid>/<name>      volumes that no disk may keep: secret, downwardAPI, projected

Owns where things are, and their removal. Invariant: removal unmounts first, and never descends into a
mount point that is still one.
"""

from __future__ import annotations

import os
import secrets
import shutil
from typing import TYPE_CHECKING

from minipod.aio.spares import Spares
from minipod.errors import FailedPrecondition
from minipod.linux import small_files

if TYPE_CHECKING:
    from minipod.aio.trash import Trash
    from minipod.kubelet.rules.pods import Container
    from minipod.spec.sandbox import UserNamespace


_WRITE = os.O_WRONLY | os.O_CLOEXEC


class PodDirectory:
    """The directory of one pod."""

    def __init__(
        self, state_dir: str, run_dir: str, uid: str, spares: Spares | None = None
    ) -> None:
        self.path = f"{state_dir}/pods/{uid}"
        self.memory = f"{run_dir}/pods/{uid}"  # on the run directory's tmpfs
        self._spares = spares or Spares("")
        self.userns: UserNamespace | None = None  # of a pod with hostUsers: false
        self._hosts = ""  # what is in its hosts file, as far as we know

    def volume(self, plugin: str, name: str) -> str:
        """The directory of one volume; *plugin* as the kubelet names it, like "empty-dir"."""
        return f"{self.path}/volumes/kubernetes.io~{plugin}/{name}"

    def volume_in_memory(self, name: str) -> str:
        """The directory of a volume that is never on a disk."""
        return f"{self.memory}/{name}"

    @property
    def hosts_path(self) -> str:
        return f"{self.path}/etc-hosts"

    def write_hosts(self, text: str) -> None:
        """Write the managed hosts file, where it is another, in place: it is bind-mounted, a rename would not be seen."""
        if text == self._hosts and os.path.exists(self.hosts_path):
            return
        self._spares.make_directory(self.path, 0o750)
        if not (there := os.path.exists(self.hosts_path)):
            self._spares.make_file(self.hosts_path, 0o644)
        # To cut an empty file, too, has ext4 write it to the disk at its end (auto_da_alloc).
        fd = os.open(self.hosts_path, _WRITE | (os.O_TRUNC if there else 0))
        try:
            small_files.write_all(fd, text.encode())
        finally:
            os.close(fd)
        self.give(self.hosts_path)
        self._hosts = text

    def give(self, path: str, group: int = 0) -> None:
        """Make the pod's root the owner of what we made for it, where that is another than the host's; *group* is the pod's id of one."""
        if self.userns is not None:
            os.chown(path, self.userns.first, self.userns.host(group), follow_symlinks=False)

    def new_termination_file(self, container: Container) -> str:
        """A fresh empty file, 0666 whatever the umask: any user of the container writes it."""
        directory = f"{self.path}/containers/{container.name}"
        self._spares.make_directory(os.path.dirname(directory), 0o755)
        self._spares.make_directory(directory, 0o750)
        path = f"{directory}/{secrets.token_hex(4)}"
        self._spares.make_file(path, 0o666)
        self.give(path)
        return path

    def remove(self, trash: Trash | None = None) -> None:
        """Unmount and remove everything, by way of *trash* where one is given. Idempotent; may block: call it in a thread."""
        if trash is None:
            _remove(self.path, self.memory)
            return
        _unmount((self.path, self.memory))
        trash.put(self.path)
        trash.put(self.memory)

    def put_away(self, trash: Trash) -> bool:
        """Do what `remove` does where nothing is mounted below, without waiting; return whether that was so."""
        paths = (self.path, self.memory)
        if os.path.exists(f"{self.path}/volumes") and _mount_points_below(paths):
            return False  # where no volume is on the disk, none is mounted: the long list need not be read
        return all(trash.move(path) for path in paths)

    def remove_volumes(self) -> None:
        """Of a pod that is over: its volumes, and what they hold. Idempotent; may block."""
        _remove(f"{self.path}/volumes", self.memory)


def _remove(*paths: str) -> None:
    """Remove directories and what is mounted below them. Raises FailedPrecondition where a mount stays."""
    _unmount(paths)
    for path in paths:
        if os.path.isdir(path):
            shutil.rmtree(path, onerror=_unless_gone)


def _unmount(paths: tuple[str, ...]) -> None:
    """Unmount what is mounted below. Raises FailedPrecondition where a mount stays."""
    if points := _mount_points_below(paths):
        from minipod.linux import flags, mount  # loads ctypes; only where there is a mount

        for point in reversed(points):
            mount.umount2(point, flags.UmountFlag.MNT_DETACH)
        if left := _mount_points_below(paths):
            raise FailedPrecondition(f"{left[0]} is still mounted")


def _unless_gone(_: object, path: str, error: tuple[type, BaseException, object]) -> None:
    """Go on where somebody else was quicker: a worker's thread that outlived its kubelet, of which the next one makes orphans."""
    if not isinstance(error[1], FileNotFoundError):
        raise error[1]


def _mount_points_below(paths: tuple[str, ...]) -> list[str]:
    with open("/proc/self/mountinfo", "rb") as file:
        content = file.read()
    if not any(os.path.basename(path).encode() in content for path in paths):
        return []  # nearly always, and the list is long on some machines
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    points = [line.split(" ", 5)[4] for line in lines if line]
    points = [
        p.encode("utf-8", "surrogateescape").decode("unicode_escape") if "\\" in p else p
        for p in points
    ]
    below = tuple(f"{path}/" for path in paths)
    return sorted(p for p in points if p.startswith(below))
