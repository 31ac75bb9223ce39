"""Namespace syscalls: unshare(2), setns(2), sethostname(2). OSError on failure."""

from __future__ import annotations

import os

from minipod.linux.flags import CloneFlag
from minipod.linux.libc import check, libc


def unshare(flags: CloneFlag) -> None:
    """Leave namespaces for new ones, this thread only."""
    check(libc.unshare(int(flags)))


def setns(fd: int, flags: CloneFlag) -> None:
    """Enter the namespace *fd* refers to (several at once when it is a pidfd)."""
    check(libc.setns(fd, int(flags)))


def sethostname(name: str) -> None:
    """Set the host name of the uts namespace."""
    raw = os.fsencode(name)
    check(libc.sethostname(raw, len(raw)), name)


def user_namespaces_max() -> int:
    """Return how many user namespaces the kernel gives (sysctl user.max_user_namespaces); 0 where it has none."""
    try:
        with open("/proc/sys/user/max_user_namespaces", "rb") as f:
            return int(f.read())
    except FileNotFoundError:
        return 0
