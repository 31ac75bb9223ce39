"""Mount syscalls: mount(2), umount2(2), pivot_root(2), open_tree(2), move_mount(2), mount_setattr(2), fsopen(2) and its kin.

Thin and complete: one function per call, kernel names, OSError on failure with the *target* as filename. No policy
(propagation, ordering, masking): that is minipod.init.
"""

from __future__ import annotations

import ctypes
import os

from minipod.linux.flags import AT, MountAttr, MountFlag, MoveMount, OpenTree, UmountFlag
from minipod.linux.libc import check, libc, syscall

FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
DATA_MAX = 4096  # bytes: mount(2) cuts its data at one page
FSCONFIG_MAX = 255  # bytes of a value (fs/fsopen.c)


class _MountAttr(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint64) for n in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def mount(source: str, target: str, fstype: str, flags: MountFlag, data: str = "") -> None:
    """mount(2)."""
    check(
        libc.mount(
            os.fsencode(source), os.fsencode(target), os.fsencode(fstype) or None,
            ctypes.c_ulong(flags), os.fsencode(data) or None,
        ),
        target,
    )  # fmt: skip


def umount2(target: str, flags: UmountFlag) -> None:
    """umount2(2)."""
    check(libc.umount2(os.fsencode(target), ctypes.c_int(flags)), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    syscall("pivot_root", os.fsencode(new_root), os.fsencode(put_old), subject=new_root)


def open_tree(dirfd: int, path: str, flags: OpenTree) -> int:
    """open_tree(2): an O_PATH fd; with CLONE of a detached copy."""
    return syscall("open_tree", dirfd, os.fsencode(path), int(flags), subject=path)


def move_mount(
    from_dirfd: int, from_path: str, to_dirfd: int, to_path: str, flags: MoveMount
) -> None:
    """move_mount(2)."""
    syscall(
        "move_mount", from_dirfd, os.fsencode(from_path), to_dirfd, os.fsencode(to_path), int(flags),
        subject=to_path or None,
    )  # fmt: skip


def mount_setattr(  # noqa: PLR0913 the call and its structure have as many
    dirfd: int,
    path: str,
    attr_set: MountAttr,
    *,
    attr_clr: MountAttr = MountAttr(0),  # noqa: B008 an immutable flag
    propagation: MountFlag = MountFlag(0),  # noqa: B008
    flags: AT = AT(0),  # noqa: B008
    userns_fd: int = 0,
) -> None:
    """mount_setattr(2). *userns_fd*, with MountAttr.IDMAP: the user namespace whose maps apply to owners on the mount."""
    attr = _MountAttr(attr_set, attr_clr, propagation, userns_fd)
    syscall(
        "mount_setattr", dirfd, os.fsencode(path), int(flags), ctypes.byref(attr),
        ctypes.sizeof(attr), subject=path or None,
    )  # fmt: skip


def fsopen(fstype: str) -> int:
    """fsopen(2)."""
    return syscall("fsopen", os.fsencode(fstype), FSOPEN_CLOEXEC, subject=fstype)


def fsconfig_set_string(fd: int, key: str, value: str) -> None:
    """fsconfig(2) with FSCONFIG_SET_STRING."""
    syscall(
        "fsconfig", fd, FSCONFIG_SET_STRING, os.fsencode(key), os.fsencode(value), 0, subject=key
    )


def fsconfig_create(fd: int) -> None:
    """fsconfig(2) with FSCONFIG_CMD_CREATE."""
    syscall("fsconfig", fd, FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(fd: int, attrs: MountAttr) -> int:
    """fsmount(2): a detached mount."""
    return syscall("fsmount", fd, FSMOUNT_CLOEXEC, int(attrs))
