"""openat2(2): paths resolved inside a root, so that no symlink and no `..` can lead out; fstatfs(2), syncfs(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from minipod.linux.flags import Resolve
from minipod.linux.libc import check, libc, syscall

PROC_SUPER_MAGIC = 0x9FA0  # f_type of procfs (statfs(2))
RACES = 128  # renames that may get between before we give up: somebody does it on purpose


class _OpenHow(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint64) for n in ("flags", "mode", "resolve")]


def openat2(dirfd: int, path: str, flags: int, mode: int, resolve: Resolve) -> int:
    """openat2(2)."""
    how = _OpenHow(flags, mode, resolve)
    return syscall(
        "openat2", dirfd, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how), subject=path
    )


def open_in_root(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open *path* as if *root_fd* were the root directory."""
    resolve = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS
    for _ in range(RACES - 1):
        try:
            return openat2(root_fd, path, flags | os.O_CLOEXEC, mode, resolve)
        except BlockingIOError:
            continue  # EAGAIN: a rename raced with a ".." (openat2(2))
    return openat2(root_fd, path, flags | os.O_CLOEXEC, mode, resolve)


def open_file_in_root(root_fd: int, path: str) -> int:
    """Open the plain file *path* inside the root, to read. Raises OSError EINVAL for anything else, and has not opened it then: to open
    a device, which whoever made the tree may have put there, is to use it, and a pipe waits."""
    found = open_in_root(root_fd, path, os.O_PATH)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", path)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)


def open_plain_directory(root_fd: int, path: str) -> int:
    """Open the directory *path* inside the root as O_PATH. Raises OSError ELOOP when a symlink is on the way."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    return openat2(root_fd, path, flags, 0, Resolve.IN_ROOT | Resolve.NO_SYMLINKS)


def open_or_make_directory(root_fd: int, path: str, mode: int) -> int:
    """Open the directory *path* inside the root as O_PATH, making what is missing of it."""
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        return open_in_root(root_fd, path, flags)
    except FileNotFoundError:
        parent, name = os.path.split(path.rstrip("/"))
        above = open_or_make_directory(root_fd, parent or "/", mode)
        try:
            os.mkdir(name, mode, dir_fd=above)
        except FileExistsError:
            pass  # another one made it, or it is a dangling symlink: the next open tells
        finally:
            os.close(above)
        return open_in_root(root_fd, path, flags)


def syncfs(fd: int) -> None:
    """syncfs(2): all of the file system that *fd* is on is on the disk when this returns."""
    check(libc.syncfs(ctypes.c_int(fd)))


def file_system(fd: int) -> int:
    """fstatfs(2): f_type, its first field, of the file system that *fd* (an O_PATH one, too) is on."""
    found = (ctypes.c_long * 32)()
    check(libc.fstatfs(fd, ctypes.byref(found)), "fstatfs")
    return int(found[0])
