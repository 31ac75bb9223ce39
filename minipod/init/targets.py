"""Where something is mounted: paths resolved inside the container's root, so that no symlink of the image leads out of it; and how.

Each way stands here twice: done, for a child that runs Python, and as calls, for one that does not (`minipod.init.launch`).
"""

from __future__ import annotations

import os
import stat
import struct

from minipod.init.operation import Context, NotDirect
from minipod.linux import files
from minipod.linux.flags import AT, MountAttr, MountFlag, Resolve
from minipod.linux.program import Call, unless

MODE = 0o755  # of what is made on the way
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


def target_directory(context: Context, path: str) -> int:
    """Open (making what is missing) the directory *path* inside the root; return an O_PATH fd."""
    return files.open_or_make_directory(context.fds["root"], path, MODE)


def target_file(context: Context, path: str) -> int:
    """Open (making what is missing) the file *path* inside the root; return an O_PATH fd."""
    parent, name = os.path.split(path.rstrip("/"))
    directory = target_directory(context, parent)
    try:
        return files.open_in_root(context.fds["root"], path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        os.close(
            os.open(
                name, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o644, dir_fd=directory
            )
        )
        return files.open_in_root(context.fds["root"], path, os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(directory)


def opening(directory: int, path: bytes, flags: int, resolve: Resolve) -> Call:
    """Return openat2(2) below the descriptor *directory*."""
    how = struct.pack("<QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return Call("openat2", (directory, path, how, len(how)))


def in_root(context: Context, path: str, flags: int) -> Call:
    """Return the call of `files.open_in_root`, once: a rename that comes between ends the program."""
    resolve = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS
    return opening(context.fds["root"], os.fsencode(path), flags, resolve)


def plain_directory(context: Context, path: str) -> Call:
    """Return the call of `files.open_plain_directory`."""
    resolve = Resolve.IN_ROOT | Resolve.NO_SYMLINKS
    return opening(context.fds["root"], os.fsencode(path), _DIRECTORY, resolve)


def directory_calls(context: Context, path: str, fd: int) -> list[Call]:
    """Return `target_directory` as calls; *fd* is the number that it will have, free until then. Raises NotDirect."""
    names = [name for name in path.split("/") if name]
    if ".." in names:
        raise NotDirect(f"{path}: up and down")
    missing = []
    for depth, name in enumerate(names):
        missing.append(in_root(context, "/" + "/".join(names[:depth]), _DIRECTORY))
        # It is there, or somebody made it, or it is a dangling symlink: the next open tells.
        missing.append(Call("mkdirat", (fd, os.fsencode(name), MODE), on_error=0))
        missing.append(Call("close", (fd,)))
    found = in_root(context, path, _DIRECTORY)
    return unless(found, [*missing, found])


def file_calls(context: Context, path: str, fd: int) -> list[Call]:
    """Return `target_file` as calls, like `directory_calls`; a file is made by mknod(2), which opens nothing."""
    parent, name = os.path.split(path.rstrip("/"))
    found = in_root(context, path, os.O_PATH)
    made = Call("mknodat", (fd, os.fsencode(name), stat.S_IFREG | 0o644, 0), on_error=0)
    missing = [*directory_calls(context, parent, fd), made, Call("close", (fd,)), found]
    return unless(found, missing)


def setattr_call(
    dirfd: int,
    path: bytes = b"",
    attr_set: MountAttr = MountAttr(0),  # noqa: B008 an immutable flag
    *,
    propagation: MountFlag = MountFlag(0),  # noqa: B008
    recursive: bool = False,
) -> Call:
    """Return mount_setattr(2) for a program, of what *dirfd* is itself where there is no *path*."""
    attr = struct.pack("<4Q", attr_set, 0, propagation, 0)  # struct mount_attr
    flags = (AT(0) if path else AT.EMPTY_PATH) | (AT.RECURSIVE if recursive else AT(0))
    return Call("mount_setattr", (dirfd, path, int(flags), attr, len(attr)))
