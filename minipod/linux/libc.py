"""The C library by ctypes: one loaded handle, `check` for its errno convention, syscall numbers by machine.

x86_64 and aarch64 are known; another machine is a clear error at import. ctypes lives nowhere else than in this package.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

libc: Final = ctypes.CDLL(None, use_errno=True)

# Numbers above 403 are the same on every architecture (syscall_64.tbl, asm-generic/unistd.h).
_COMMON: Final = {
    "pidfd_send_signal": 424, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431,
    "fsmount": 432, "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437,
    "pidfd_getfd": 438, "mount_setattr": 442,
}  # fmt: skip
_BY_MACHINE: Final = {
    "x86_64": {
        "pivot_root": 155,
        "keyctl": 250,
        "seccomp": 317,
        "bpf": 321,
        "capget": 125,
        "capset": 126,
        "rt_sigaction": 13,
        "sched_setattr": 314,
    },
    "aarch64": {
        "pivot_root": 41,
        "keyctl": 219,
        "seccomp": 277,
        "bpf": 280,
        "capget": 90,
        "capset": 91,
        "rt_sigaction": 134,
        "sched_setattr": 274,
    },
}

MACHINE: Final = os.uname().machine
if MACHINE not in _BY_MACHINE:
    raise ImportError(
        f"minipod knows the system calls of x86_64 and aarch64, not those of {MACHINE}"
    )
GOARCH: Final = {"x86_64": "amd64", "aarch64": "arm64"}  # what images and Kubernetes call them
NUMBERS: Final = {**_COMMON, **_BY_MACHINE[MACHINE]}


def check(result: int, subject: str | None = None) -> int:
    """Return *result*, or raise the OSError that errno names, with *subject* as its filename."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
    return result


def syscall(name: str, *args: object, subject: str | None = None) -> int:
    """Call *name* by number; every integer argument is passed as a long."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    return check(libc.syscall(ctypes.c_long(NUMBERS[name]), *converted), subject)
