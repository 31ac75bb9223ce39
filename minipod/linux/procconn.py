"""The proc connector: the kernel tells every exit on the machine, with its code (linux/cn_proc.h).

The only way on every kernel to learn the exit code of a process that is not our child.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass

NETLINK_CONNECTOR = 11
CN_IDX_PROC = 1
CN_VAL_PROC = 1
PROC_CN_MCAST_LISTEN = 1
PROC_EVENT_EXIT = 0x80000000
NLMSG_DONE = 3

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_CN = struct.Struct("=IIIIHH")  # struct cn_msg
_EVENT = struct.Struct("=IIQ")  # what, cpu, timestamp
_EXIT = struct.Struct("=IIII")  # pid, tgid, exit_code, exit_signal


@dataclass(frozen=True, slots=True)
class Exit:
    """A thread group leader ended; *exit_code* is a wait status (wait(2))."""

    pid: int
    exit_code: int


class ProcConnector:
    """One subscription. Every fork, exec and exit of the machine wakes its reader: close it when unneeded."""

    def __init__(self) -> None:
        """Raises OSError where the kernel has no connector."""
        flags = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, flags, NETLINK_CONNECTOR)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            self._socket.bind((0, CN_IDX_PROC))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def listen(self) -> None:
        """Ask for events (PROC_CN_MCAST_LISTEN)."""
        operation = struct.pack("=I", PROC_CN_MCAST_LISTEN)
        body = _CN.pack(CN_IDX_PROC, CN_VAL_PROC, 0, 0, len(operation), 0) + operation
        header = _HEADER.pack(_HEADER.size + len(body), NLMSG_DONE, 0, 0, os.getpid())
        self._socket.send(header + body)

    def read(self) -> list[Exit]:
        """Return the exits that wait to be read; overflow loses some, silently to us."""
        found: list[Exit] = []
        while True:
            try:
                datagram = self._socket.recv(1 << 16)
            except BlockingIOError:
                return found
            except OSError:
                continue  # ENOBUFS: events were lost, later ones still come
            offset = _HEADER.size + _CN.size
            if len(datagram) < offset + _EVENT.size + _EXIT.size:
                continue
            what, _, _ = _EVENT.unpack_from(datagram, offset)
            if what == PROC_EVENT_EXIT:
                pid, tgid, code, _ = _EXIT.unpack_from(datagram, offset + _EVENT.size)
                if pid == tgid:
                    found.append(Exit(pid, code))

    def close(self) -> None:
        self._socket.close()
