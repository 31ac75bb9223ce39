"""`python -m minipod.supervisor CONFIG`: the supervisor (`start`), from a read-only mount of its interpreter (CVE-2019-5736).

Python starts twice for that, so the first start imports next to nothing.
"""

from __future__ import annotations

import os
import sys

from minipod.linux import mount
from minipod.linux.flags import AT, AT_FDCWD, MountAttr, OpenTree

TUNABLES = "GLIBC_TUNABLES"
NO_RSEQ = "glibc.pthread.rseq=0"
SEALED = "MINIPOD_SEALED_INTERPRETER"  # set in the environment once we run from the read-only mount


def seal_interpreter() -> None:
    """Run this program from a detached read-only mount of its interpreter.

    /proc/self/exe of every child then refers to that mount, so a container that re-executes it can never open the
    host's python for writing (EROFS). The C library registers no memory with the kernel there, which a child without it
    would die of (`linux.program`); Python has no use for that.
    """
    if os.environ.get(SEALED) == "1":
        del os.environ[SEALED]
        if not (rest := os.environ[TUNABLES].removesuffix(NO_RSEQ).rstrip(":")):
            del os.environ[TUNABLES]
        else:
            os.environ[TUNABLES] = rest
        return
    interpreter = os.path.realpath(sys.executable)
    fd = mount.open_tree(AT_FDCWD, interpreter, OpenTree.CLONE | OpenTree.CLOEXEC)
    mount.mount_setattr(fd, "", MountAttr.RDONLY | MountAttr.NOSUID, flags=AT.EMPTY_PATH)
    argv = [sys.executable, "-P", "-m", "minipod.supervisor", *sys.argv[1:]]
    tunables = ":".join(filter(None, (os.environ.get(TUNABLES), NO_RSEQ)))
    environment = {**os.environ, SEALED: "1", TUNABLES: tunables}
    os.execve(f"/proc/self/fd/{fd}", argv, environment)


if __name__ == "__main__":
    seal_interpreter()
    from minipod.supervisor.start import main

    main()
