"""prctl(2): settings of the calling thread or process, and the process' title.

python-prctl makes the calls that it makes right. Ours are: what it does not know (ambient capabilities, a closed list of options), and
everything where it can't be imported (built against headers with a capability that it has no name for, it raises NameError). It is
never asked for a seccomp filter: `prctl.set_seccomp(2)` turns into strict mode.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

from minipod.linux.libc import check, libc


def _load() -> Any:
    try:
        import prctl as module
    except (ImportError, NameError):
        return None
    return module


python_prctl: Final = _load()

_numbers = [ctypes.c_ulong] * 4
_prctl: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, *_numbers, use_errno=True)(
    ("prctl", libc)
)

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_KEEPCAPS: Final = 8
PR_SET_NAME: Final = 15
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4


def prctl(option: int, *arguments: int | bytes) -> int:
    """Call prctl(2) itself; arguments that are not given are 0. Raises OSError."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    return check(
        libc.prctl(option, *(a if isinstance(a, bytes) else ctypes.c_ulong(a) for a in padded))
    )


def _of_number(option: int, argument: int) -> int:
    """Call prctl(2) with one number, and no conversion: this is called for each capability. Raises OSError."""
    return check(_prctl(option, argument, 0, 0, 0))


def set_child_subreaper(on: bool) -> None:
    """PR_SET_CHILD_SUBREAPER: orphans below us become our children."""
    if python_prctl is not None:
        python_prctl.set_child_subreaper(on)
    else:
        prctl(PR_SET_CHILD_SUBREAPER, int(on))


def set_pdeathsig(number: int) -> None:
    """PR_SET_PDEATHSIG: die by signal *number* with the parent thread."""
    if python_prctl is not None:
        python_prctl.set_pdeathsig(number)
    else:
        prctl(PR_SET_PDEATHSIG, number)


def set_dumpable(on: bool) -> None:
    """PR_SET_DUMPABLE: whether others of our user may trace us and read our /proc."""
    if python_prctl is not None:
        python_prctl.set_dumpable(on)
    else:
        prctl(PR_SET_DUMPABLE, int(on))


def set_title(title: str) -> None:
    """Call the process *title*: whole in its command line as far as that has room, its first 15 bytes as its name (PR_SET_NAME)."""
    if python_prctl is not None:
        python_prctl.set_proctitle(title)
    prctl(PR_SET_NAME, os.fsencode(title) + b"\0")


def set_keepcaps(on: bool) -> None:
    """PR_SET_KEEPCAPS: permitted capabilities survive the change of user."""
    if python_prctl is not None:
        python_prctl.set_keepcaps(on)
    else:
        prctl(PR_SET_KEEPCAPS, int(on))


def set_no_new_privs() -> None:
    """PR_SET_NO_NEW_PRIVS: execve can't gain privileges any more."""
    if python_prctl is not None:
        python_prctl.set_no_new_privs(1)
    else:
        prctl(PR_SET_NO_NEW_PRIVS, 1)


def capbset_read(capability: int) -> bool:
    """PR_CAPBSET_READ: whether *capability* is in the bounding set. Any number, so our own call: python-prctl's ends at its build's."""
    return bool(_of_number(PR_CAPBSET_READ, capability))


def capbset_drop(capability: int) -> None:
    """PR_CAPBSET_DROP. Our own call, as above."""
    _of_number(PR_CAPBSET_DROP, capability)


def clear_ambient() -> None:
    """PR_CAP_AMBIENT_CLEAR_ALL."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
