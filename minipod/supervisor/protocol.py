"""The words between the supervisor and its clients, over a SOCK_SEQPACKET socket (0600).

    request   {"n": 7, "op": "create", ...} + fds        the large part (a bundle) in a sealed memfd, fds[0]
    reply     {"n": 7, "ok": {...}} + fds                or {"n": 7, "error": {"kind", ...}}
    event     {"event": "exited", "id": ..., ...}        to clients that subscribed
              {"event": "console", "id": ...} + fd       to who asked for an exec with a tty: its pty's master
    LONG + memfd + fds                                   any of these, when it is longer than a message may be

Errors keep their class across the socket: `SetupFailed` with its fields, others with their message.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

from minipod import errors
from minipod.linux.fds import read_sealed, sealed_memfd

MESSAGE_MAX = 64 << 10  # bytes
FDS_MAX = 8
LONG = b"long"  # for a message that is in a sealed memfd, the first of its fds

Message = dict[str, Any]
_ROOM = socket.CMSG_SPACE(4 * FDS_MAX)  # bytes
_encode = json.JSONEncoder(separators=(",", ":")).encode


def send(sock: socket.socket, message: Message, fds: list[int] | None = None) -> None:
    """Send one message. Raises BlockingIOError when the peer does not read, ConnectionError when it is gone."""
    data = _encode(message).encode()
    if len(data) <= MESSAGE_MAX:
        socket.send_fds(sock, [data], fds or [])
        return
    memfd = sealed_memfd("message", data)
    try:
        socket.send_fds(sock, [LONG], [memfd, *(fds or [])])
    finally:
        os.close(memfd)


def receive(sock: socket.socket) -> tuple[Message | None, list[int]]:
    """Read one message and its fds (close-on-exec); (None, []) at end of file. Raises ValueError for what is no message."""
    # Not socket.recv_fds: it forgets its flags (CPython 3.11).
    data, ancillary, _, _ = sock.recvmsg(MESSAGE_MAX, _ROOM, socket.MSG_CMSG_CLOEXEC)
    fds = [fd for _, _, raw in ancillary for (fd,) in struct.iter_unpack("i", raw)]
    try:
        message = json.loads(_long(fds) if data == LONG else data) if data else None
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return message, fds


def _long(fds: list[int]) -> bytes:
    """Take a message out of the first of *fds*. Raises ValueError when it is not sealed, or not there."""
    if not fds:
        raise ValueError("a long message without its memfd")
    memfd = fds.pop(0)
    try:
        return read_sealed(memfd)
    except OSError as e:
        raise ValueError("a long message that is not sealed") from e
    finally:
        os.close(memfd)


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


def setup_failed(step: str, number: int, subject: str, detail: str) -> Message:
    """Return the error of a set-up whose *step* gave errno *number*, 0 for none."""
    return error_to_message(errors.SetupFailed(step, errno=number, subject=subject, detail=detail))


def killed(made: str, step: str) -> Message:
    """Return the error of a set-up that ended without a word."""
    why = "its process was killed (out of memory within the container's limit?)"
    return setup_failed(step, 0, made, why)


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
