"""hostPath: what is there must be what its type says (K8S pkg/volume/hostpath)."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from minipod.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Callable

    from minipod.kubelet.rules.pods import Raw

_KINDS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def check(source: Raw) -> str:
    """Check (and for ...OrCreate make) a hostPath; return its path. Raises FailedPrecondition."""
    path, kind = source["path"], source.get("type") or ""
    if not kind:
        if not os.path.lexists(path):
            os.makedirs(path, 0o755, exist_ok=True)  # as container runtimes do for a bind source
        return str(path)
    if kind == "DirectoryOrCreate" and not os.path.exists(path):
        os.makedirs(path, 0o755, exist_ok=True)
    elif kind == "FileOrCreate" and not os.path.exists(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    fits, words = _KINDS[kind]
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = 0
    if not fits(mode):
        raise FailedPrecondition(f"hostPath type check failed: {path} is not {words}")
    return str(path)
