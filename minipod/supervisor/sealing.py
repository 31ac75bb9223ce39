"""The supervisor's interpreter, on a read-only mount of its own (CVE-2019-5736).

/proc/self/exe of every child refers to that mount, so a container that re-executes it can never open the host's python for writing
(EROFS). Whoever starts a supervisor executes it from there at once; one that was started otherwise (in a scope of systemd's) executes
itself again, for 25 ms.

The C library registers no memory with the kernel there, which a child without it would die of (`linux.machine`); Python has no use for
that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from minipod.linux import mount
from minipod.linux.flags import AT, AT_FDCWD, MountAttr, OpenTree

TUNABLES = "GLIBC_TUNABLES"
NO_RSEQ = "glibc.pthread.rseq=0"
# set in the environment of what runs from the read-only mount
SEALED = "MINIPOD_SEALED_INTERPRETER"


def interpreter() -> int:
    """Return a descriptor of our interpreter in a detached read-only mount; `path` executes it. Raises OSError."""
    fd = mount.open_tree(
        AT_FDCWD, os.path.realpath(sys.executable), OpenTree.CLONE | OpenTree.CLOEXEC
    )
    try:
        mount.mount_setattr(fd, "", MountAttr.RDONLY | MountAttr.NOSUID, flags=AT.EMPTY_PATH)
    except BaseException:
        os.close(fd)
        raise
    return fd


def path(fd: int) -> str:
    """Return what execve(2) takes for it, in this process or a child that has its descriptors."""
    return f"/proc/self/fd/{fd}"


def environment(before: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that is executed from there."""
    tunables = ":".join(filter(None, (before.get(TUNABLES), NO_RSEQ)))
    return {**before, SEALED: "1", TUNABLES: tunables}


def is_sealed() -> bool:
    """Whether this process was executed from there; its environment is as before then."""
    if os.environ.get(SEALED) != "1":
        return False
    del os.environ[SEALED]
    if rest := os.environ[TUNABLES].removesuffix(NO_RSEQ).rstrip(":"):
        os.environ[TUNABLES] = rest
    else:
        del os.environ[TUNABLES]
    return True
