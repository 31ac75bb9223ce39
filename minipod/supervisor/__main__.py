"""`python -m minipod.supervisor CONFIG`: the supervisor (`start`), from a read-only mount of its interpreter (CVE-2019-5736).

Python starts twice for that, so the first start imports next to nothing.
"""

from __future__ import annotations

import os
import sys

from minipod.linux import mount
from minipod.linux.flags import AT, AT_FDCWD, MountAttr, OpenTree

SEALED = "MINIPOD_SEALED_INTERPRETER"  # set in the environment once we run from the read-only mount


def seal_interpreter() -> None:
    """Run this program from a detached read-only mount of its interpreter.

    /proc/self/exe of every child then refers to that mount, so a container that re-executes it can never open the
    host's python for writing (EROFS).
    """
    if os.environ.get(SEALED) == "1":
        del os.environ[SEALED]
        return
    interpreter = os.path.realpath(sys.executable)
    fd = mount.open_tree(AT_FDCWD, interpreter, OpenTree.CLONE | OpenTree.CLOEXEC)
    mount.mount_setattr(fd, "", MountAttr.RDONLY | MountAttr.NOSUID, flags=AT.EMPTY_PATH)
    argv = [sys.executable, "-P", "-m", "minipod.supervisor", *sys.argv[1:]]
    os.execve(f"/proc/self/fd/{fd}", argv, {**os.environ, SEALED: "1"})


if __name__ == "__main__":
    seal_interpreter()
    from minipod.supervisor.start import main

    main()
