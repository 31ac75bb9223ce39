"""What a set-up tells the supervisor over its SOCK_SEQPACKET pair, one JSON object a message.

set-up -> supervisor   {"t": "forked", "pid": N}          the main process, in the host's pid namespace
                       {"t": "warning", "text": ...}      degraded, and continuing
                       {"t": "console"} + fd              the master of its pty
                       {"t": "ready", ...} [+ fds]        everything that can fail has been done
                       {"t": "failed", "step", "errno", "subject", "cause", "detail"}
                       {"t": "again"}                     the short way failed (`launch`): take the long one
                       8 bytes                            its execve failed, after "go"; read as {"t": "outcome", "errno": N}
supervisor -> set-up   b"go"                              execve now
end of file            execve has happened (the socket is close-on-exec), or the process is gone

"forked" comes from the first process of a set-up and what follows from the main one: on a busy machine "ready" may come first.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from typing import Any

GO = b"go"
READY = b'{"t":"ready"}'
AGAIN = b'{"t":"again"}'
OUTCOME = 8  # bytes of a message that is the negative errno of execve, in the machine's order: no JSON is as short
MESSAGE_MAX = 64 << 10  # bytes; far below the default SO_SNDBUF of a SEQPACKET socket


class StepFailed(Exception):
    """An operation failed; carries what `SetupFailed` will say, across the process border."""

    def __init__(
        self, step: str, errno: int, subject: str, *, cause: str = "", detail: str = ""
    ) -> None:
        super().__init__(step)
        self.step = step
        self.errno = errno
        self.subject = subject
        self.cause = cause
        self.detail = detail


class SyncPipe:
    """The set-up's end of the pair. Survives fork; the last holder's execve or exit is the EOF."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        socket.send_fds(self._sock, [json.dumps(message).encode()], fds or [])

    def forked(self, pid: int) -> None:
        self.send({"t": "forked", "pid": pid})

    def warning(self, text: str) -> None:
        self.send({"t": "warning", "text": text})

    def ready(self, fds: list[int] | None = None, **fields: Any) -> None:
        self.send({"t": "ready", **fields}, fds)

    def failed(self, e: StepFailed) -> None:
        self.send(
            {"t": "failed", "step": e.step, "errno": e.errno, "subject": e.subject,
             "cause": e.cause, "detail": e.detail}
        )  # fmt: skip

    def close(self) -> None:
        """Close this process' end; the set-up keeps its own."""
        self._sock.close()

    def await_go(self) -> bool:
        """Park until the supervisor says go; False when it is gone."""
        return self._sock.recv(16) == GO


class Unheard(SyncPipe):
    """Of a set-up that runs in a thread: nobody listens to anything but its errors, which are raised."""

    def __init__(self) -> None:
        pass

    def send(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Drop it."""


class Spare:
    """A pair that was made while nobody waited for it."""

    def __init__(self) -> None:
        self._pair: tuple[socket.socket, SyncPipe] | None = None

    def take(self) -> tuple[socket.socket, SyncPipe]:
        """Return it, or one made now. Raises OSError."""
        found, self._pair = self._pair, None
        return found or pair()

    def make(self) -> None:
        """Have one for the next who asks, where there are descriptors for it. Idempotent."""
        if self._pair is None:
            with contextlib.suppress(OSError):
                self._pair = pair()


def pair() -> tuple[socket.socket, SyncPipe]:
    """Return the supervisor's end (non-blocking) and the set-up's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, SyncPipe(theirs)


def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Read one message and its fds; (None, []) at end of file. Raises BlockingIOError."""
    data, fds, _flags, _ = socket.recv_fds(sock, MESSAGE_MAX, 4, socket.MSG_CMSG_CLOEXEC)
    for fd in fds:
        os.set_inheritable(fd, False)
    if len(data) == OUTCOME:
        return {"t": "outcome", "errno": -int.from_bytes(data, sys.byteorder, signed=True)}, fds
    return (json.loads(data), fds) if data else (None, fds)
