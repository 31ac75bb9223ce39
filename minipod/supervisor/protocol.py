"""The words between the supervisor and its clients, over a SOCK_SEQPACKET socket (0600).

    request   {"n": 7, "op": "create", ...} + fds        the large part (a bundle) in a sealed memfd, fds[0]
    reply     {"n": 7, "ok": {...}} + fds                or {"n": 7, "error": {"kind", ...}}
    event     {"event": "exited", "id": ..., ...}        to clients that subscribed

Errors keep their class across the socket: `SetupFailed` with its fields, others with their message.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from minipod import errors

MESSAGE_MAX = 64 << 10  # bytes
FDS_MAX = 8

Message = dict[str, Any]


def send(sock: socket.socket, message: Message, fds: list[int] | None = None) -> None:
    """Send one message. Raises BlockingIOError when the peer does not read, ConnectionError when it is gone."""
    socket.send_fds(sock, [json.dumps(message, separators=(",", ":")).encode()], fds or [])


def receive(sock: socket.socket) -> tuple[Message | None, list[int]]:
    """Read one message and its fds (close-on-exec); (None, []) at end of file."""
    data, fds, _flags, _address = socket.recv_fds(
        sock, MESSAGE_MAX, FDS_MAX, socket.MSG_CMSG_CLOEXEC
    )
    for fd in fds:
        os.set_inheritable(fd, False)
    return (json.loads(data) if data else None), fds


def error_to_message(e: BaseException) -> Message:
    """Encode an error for the other side."""
    if isinstance(e, errors.SetupFailed):
        return {
            "kind": "SetupFailed", "step": e.step, "errno": e.errno, "subject": e.subject,
            "cause": e.cause, "detail": e.detail,
        }  # fmt: skip
    if isinstance(e, errors.MinipodError):
        return {"kind": type(e).__name__, "message": e.message, "hint": e.hint}
    return {"kind": "Internal", "message": f"{type(e).__name__}: {e}", "hint": ""}


def error_from_message(raw: Message) -> errors.MinipodError:
    """Build the error that the other side raised."""
    if raw["kind"] == "SetupFailed":
        return errors.SetupFailed(
            raw["step"],
            errno=raw["errno"],
            subject=raw["subject"],
            cause=raw["cause"],
            detail=raw["detail"],
        )
    known = {
        c.__name__: c
        for c in (errors.NotFound, errors.AlreadyExists, errors.FailedPrecondition, errors.Internal)
    }
    return known.get(raw["kind"], errors.Internal)(raw["message"], hint=raw["hint"])
