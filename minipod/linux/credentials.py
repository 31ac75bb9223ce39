"""Capabilities: names, the process' sets, the bounding set (capabilities(7)). All of it concerns the calling thread only.

capset(2) is called once for all three sets, where python-prctl makes a call for each.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

from minipod.linux.libc import syscall
from minipod.linux.prctl import capbset_drop, capbset_read

NAMES: Final = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK",
    "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN",
    "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
    "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND",
    "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip

DEFAULT: Final = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip  # what containerd gives (kubelet-rules, capabilities)

_VERSION_3 = 0x20080522


def _last_cap() -> int:
    with open("/proc/sys/kernel/cap_last_cap", "rb") as f:
        return int(f.read())


LAST_CAP: Final = _last_cap()


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint32) for n in ("effective", "permitted", "inheritable")]


def number(name: str) -> int:
    """Return a capability's number. Raises ValueError."""
    return NAMES.index(name)


def get_capabilities() -> dict[str, frozenset[str]]:
    """Return the calling thread's effective, permitted and inheritable sets, as names."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    syscall("capget", ctypes.byref(header), ctypes.byref(data))
    return {
        kind: frozenset(
            name for n, name in enumerate(NAMES) if getattr(data[n // 32], kind) & (1 << (n % 32))
        )
        for kind in ("effective", "permitted", "inheritable")
    }


@cache
def to_drop(keep: frozenset[int]) -> tuple[int, ...]:
    """Return what is in the bounding set and not in *keep*. Found once: for a process that does not change its own."""
    return tuple(n for n in range(LAST_CAP + 1) if n not in keep and capbset_read(n))


@cache
def capset_arguments(
    *, effective: frozenset[int], permitted: frozenset[int], inheritable: frozenset[int]
) -> tuple[bytes, bytes]:
    """Return what capset(2) is given; what the process does not have is left out. Found once, as above."""
    header, data = _capset(effective, permitted, inheritable)
    return bytes(header), bytes(data)


def set_capabilities(
    *, effective: frozenset[int], permitted: frozenset[int], inheritable: frozenset[int]
) -> None:
    """capset(2); what the process does not have any more is left out, silently."""
    header, data = _capset(effective, permitted, inheritable)
    syscall("capset", ctypes.byref(header), ctypes.byref(data))


def _capset(
    effective: frozenset[int], permitted: frozenset[int], inheritable: frozenset[int]
) -> tuple[_Header, ctypes.Array[_Data]]:
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    syscall("capget", ctypes.byref(header), ctypes.byref(data))
    have = data[0].permitted | data[1].permitted << 32
    masks = [sum(1 << n for n in wanted) & have for wanted in (effective, permitted, inheritable)]
    for word in (0, 1):
        data[word] = _Data(*(mask >> 32 * word & 0xFFFFFFFF for mask in masks))
    return header, data


def limit_bounding_set(keep: frozenset[int]) -> None:
    """Drop every capability that is not in *keep* from the bounding set, those of a newer kernel included."""
    for n in range(LAST_CAP + 1):
        if n not in keep and capbset_read(n):
            capbset_drop(n)
