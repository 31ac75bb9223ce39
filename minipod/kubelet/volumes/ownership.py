"""fsGroup: the pod's group owns a volume (K8S pkg/volume/volume_linux.go). Walks the tree: call it in a thread.

Another pod may write to a local volume meanwhile: each entry is changed by a descriptor of it, so that one which becomes a link
under our hands leads nowhere.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass

_RW, _RO, _EXEC = 0o660, 0o440, 0o110


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Who shall own a volume; *on_mismatch*: only when its top does not belong to the group yet."""

    gid: int
    on_mismatch: bool = False


def give(path: str, group: Group, *, readonly: bool = False) -> None:
    """Give everything below *path* to the group. Raises OSError."""
    mask = _RO if readonly else _RW
    if group.on_mismatch and _fits(path, group.gid, mask):
        return
    path = os.path.realpath(path)  # the way to it is the administrator's
    for _, directories, files, fd in os.fwalk(path, topdown=False):
        for name in (*files, *directories):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                _give_one(name, group.gid, mask, fd)
    _give_one(path, group.gid, mask)  # the top last: a walk that was cut off is done again


def shift(path: str, by: int) -> None:
    """Add *by* to the owner and group of everything below *path*, and of itself: from a pod's ids to the host's. Raises OSError.

    For what nobody else has seen yet.
    """
    for _, directories, files, fd in os.fwalk(path, topdown=False):
        for name in (*files, *directories):
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            os.chown(name, info.st_uid + by, info.st_gid + by, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISLNK(info.st_mode):
                os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=fd)  # chown(2) takes setgid away
    info = os.stat(path)
    os.chown(path, info.st_uid + by, info.st_gid + by)
    os.chmod(path, stat.S_IMODE(info.st_mode))


def _fits(path: str, gid: int, mask: int) -> bool:
    info = os.stat(path)
    wanted = mask | stat.S_ISGID | _EXEC
    return info.st_gid == gid and info.st_mode & wanted == wanted


def _give_one(name: str, gid: int, mask: int, directory: int | None = None) -> None:
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        info = os.fstat(fd)
        os.chown(name, -1, gid, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            return
        if stat.S_ISDIR(info.st_mode):
            mask |= stat.S_ISGID | _EXEC
        os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(info.st_mode) | mask)
    finally:
        os.close(fd)
