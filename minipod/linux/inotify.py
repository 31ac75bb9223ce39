"""inotify(7): a descriptor that becomes readable when a file changes."""

from __future__ import annotations

import os

from minipod.linux.libc import check, libc

IN_MODIFY = 0x2
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_MOVED_TO = 0x80
IN_NONBLOCK = 0o4000
IN_CLOEXEC = 0o2000000


def inotify_init() -> int:
    """Return a new instance: non-blocking, close-on-exec."""
    return check(libc.inotify_init1(IN_NONBLOCK | IN_CLOEXEC))


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """Watch *path*; one that is watched already keeps its watch (and takes the new *mask*)."""
    return check(libc.inotify_add_watch(fd, os.fsencode(path), mask), path)


def drain(fd: int) -> None:
    """Read all events away: who waits looks at the files themselves."""
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        return
