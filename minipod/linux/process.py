"""Process syscalls: pidfds, clone3, close_range, signals, session keyrings; and a process' start time."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import select
import signal
import struct
import time
from collections.abc import Iterable
from functools import lru_cache

from minipod.linux import small_files
from minipod.linux.flags import CloneFlag
from minipod.linux.libc import syscall

KEYCTL_JOIN_SESSION_KEYRING = 1
UINT_MAX = 2**32 - 1
_SCHED_OTHER, _RESET_ON_FORK = 0, 1  # include/uapi/linux/sched.h
_TICKS = os.sysconf("SC_CLK_TCK")  # in a second


def pidfd_open(pid: int, flags: int = 0) -> int:
    """pidfd_open(2); close-on-exec."""
    return syscall("pidfd_open", pid, flags, subject=str(pid))


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """pidfd_send_signal(2)."""
    syscall("pidfd_send_signal", pidfd, int(number), None, 0)


def kill(pidfd: int, timeout: float) -> bool:
    """SIGKILL, and wait up to *timeout* seconds for the end (not for its reaping); return whether it came."""
    try:
        pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return True
    return await_end(pidfd, timeout)


def await_end(pidfd: int, timeout: float) -> bool:
    """Wait up to *timeout* seconds for a process' end; return whether it came. By poll(2): select(2) ends at descriptor 1023."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """pidfd_getfd(2): a copy of another process' descriptor; close-on-exec."""
    return syscall("pidfd_getfd", pidfd, fd, 0)


def close_range(first: int, last: int) -> None:
    """close_range(2), both ends included."""
    syscall("close_range", first, last, 0)


def close_all_but(fds: Iterable[int]) -> None:
    """Close every descriptor that is not listed."""
    for first, last in ranges_but(fds):
        close_range(first, last)


def ranges_but(fds: Iterable[int]) -> list[tuple[int, int]]:
    """Return (first, last) of all descriptors that are not listed."""
    ranges, first = [], 0
    for fd in sorted(set(fds)):
        if fd > first:
            ranges.append((first, fd - 1))
        first = fd + 1
    return [*ranges, (first, UINT_MAX)]


def raise_descriptor_limit() -> tuple[int, int]:
    """Raise the soft limit of open descriptors to the hard one (getrlimit(2)); return (soft, hard) as they were."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft, hard


def shorten_turns(seconds: float) -> None:
    """Ask for turns of the processor of that length, this thread's, not its children's (sched_setattr(2); "slice", kernel/sched/fair.c).

    Who asks for short ones has the next one sooner when it wakes: it need not wait for the end of a longer one. Linux 6.12; an older
    kernel takes it and does nothing. Raises OSError.
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = struct.pack(
        "IIQiIQQQ", 48, _SCHED_OTHER, _RESET_ON_FORK, nice, 0, round(seconds * 1e9), 0, 0
    )
    syscall("sched_setattr", 0, attributes, 0)


def start_time(pid: int) -> int:
    """Return when *pid* started, in clock ticks since boot (proc(5), stat, field 22). Raises ProcessLookupError."""
    try:
        content = small_files.read(f"/proc/{pid}/stat")
    except FileNotFoundError:
        raise ProcessLookupError(3, os.strerror(3), str(pid)) from None
    return int(content.rpartition(b")")[2].split()[19])


def ticks() -> int:
    """Return what the start time of a process would be that starts now."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)


def age(pid: int) -> float:
    """Return for how many seconds *pid* exists. Raises ProcessLookupError."""
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return now - start_time(pid) / _TICKS


def wait_channel(pidfd: int) -> str:
    """Return the kernel function that a process sleeps in (proc(5), wchan); "" when that can't be told."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as f:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in f)
        with open(f"/proc/{fields['Pid']}/wchan", encoding="ascii") as f:
            return f.read().strip("0")
    except (OSError, KeyError):
        return ""


CLONE_PARENT_SETTID = 0x00100000
CLONE_CLEAR_SIGHAND = 0x100000000
CLONE_INTO_CGROUP = 0x200000000


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (n, ctypes.c_uint64)
        for n in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
            "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


def clone3(flags: CloneFlag = CloneFlag(0), *, cgroup: int = -1) -> int:  # noqa: B008 an immutable flag
    """clone3(2): fork a child that is born in new namespaces (*flags*), and in the unified tree's cgroup *cgroup* (an fd; -1: ours).

    Signals that are handled here have their default disposition there, from the first instruction (CLONE_CLEAR_SIGHAND).

    Python is not told (no PyOS_AfterFork_Child, which costs 160 page faults): only for a single-threaded process whose child soon
    executes another program.
    """
    arguments = _clone_args(flags, cgroup)
    return syscall("clone3", ctypes.byref(arguments), ctypes.sizeof(arguments))


@lru_cache(maxsize=64)
def clone_arguments(flags: CloneFlag = CloneFlag(0), cgroup: int = -1, note: int = 0) -> bytes:  # noqa: B008
    """Return what `clone3` would give to the kernel, for those who make the call themselves.

    Before the child runs, its pid is written to the address *note* (CLONE_PARENT_SETTID; 0: nowhere).
    """
    arguments = _clone_args(flags, cgroup)
    if note:
        arguments.flags |= CLONE_PARENT_SETTID
        arguments.parent_tid = note
    return bytes(arguments)


def address(memory: mmap.mmap, offset: int) -> int:
    """Return where *offset* of a mapping is, until that is resized."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory, offset))


def _clone_args(flags: CloneFlag, cgroup: int) -> _CloneArgs:
    arguments = _CloneArgs(flags=int(flags) | CLONE_CLEAR_SIGHAND, exit_signal=signal.SIGCHLD)
    if cgroup >= 0:
        arguments.flags |= CLONE_INTO_CGROUP
        arguments.cgroup = cgroup
    return arguments


def reset_internal_signals() -> None:
    """Give signals 32 and 33 their default disposition: glibc's posix_spawn leaves them ignored, and every child inherits it."""
    # struct sigaction of the kernel: SIG_DFL, no flags, no mask
    default = ctypes.create_string_buffer(32)
    for number in (32, 33):
        syscall("rt_sigaction", number, ctypes.byref(default), None, 8)


def join_session_keyring() -> None:
    """Start with a new, empty session keyring (keyctl(2)); a kernel without keys has none to leak."""
    try:
        syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None, 0, 0, 0)
    except OSError:
        return
