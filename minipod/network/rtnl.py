"""rtnetlink messages packed by hand: build requests, send them as one batch, read the answers strictly.

Only what the per-pod path needs; everything else goes through pyroute2, whose encoding alone costs 3 to 4 ms per pod.
A batch is one sendmsg: the kernel executes its messages in order within that call, goes on after a failed one, and
answers a failed message always but a successful one only when NLM_F_ACK is set. So only the last one asks, and the
first answer with an error names the request that failed. See rtnetlink(7) and linux/netlink.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from minipod.errors import Internal, SetupFailed

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_NEWADDR: Final = 20
RTM_NEWROUTE: Final = 24

_NETLINK_ROUTE: Final = 0
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10  # answers do not repeat the request
_NETLINK_EXT_ACK: Final = 11  # answers carry the kernel's own words
_NLMSG_ERROR: Final = 2
_NLM_F_ACK_TLVS: Final = 0x200
_NLMSGERR_ATTR_MSG: Final = 1
_NLA_F_NESTED: Final = 0x8000

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE: Final = struct.Struct("=HH")  # struct nlattr
_IFINFOMSG: Final = struct.Struct("=BxHiII")
_IFADDRMSG: Final = struct.Struct("=BBBBi")
_RTMSG: Final = struct.Struct("=BBBBBBBBI")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One netlink message; *what* is how an error names it."""

    what: str
    kind: int  # RTM_*
    flags: int = 0  # besides NLM_F_REQUEST and NLM_F_ACK
    body: bytes


def attribute(kind: int, payload: bytes) -> bytes:
    """Pack one attribute, padded to four bytes; the padding does not count in its length."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Pack attributes inside an attribute."""
    return attribute(kind | _NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """Pack a NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """Pack a 32-bit number."""
    return attribute(kind, struct.pack("=I", value))


def ifinfomsg(*, index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """Pack the fixed part of a link message."""
    return _IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, flags, change)


def ifaddrmsg(*, family: int, prefix: int, flags: int, index: int) -> bytes:
    """Pack the fixed part of an address message; scope is universe."""
    return _IFADDRMSG.pack(family, prefix, flags, 0, index)


def default_rtmsg(family: int) -> bytes:
    """Pack the fixed part of a default route: main table, protocol boot, universe, unicast."""
    return _RTMSG.pack(family, 0, 0, 0, 254, 3, 0, 1, 0)


def encode(requests: Sequence[Request], first_seq: int = 1) -> bytes:
    """Pack *requests* into one buffer, numbered from *first_seq*; only the last one asks for an ack."""
    last = len(requests) - 1
    parts = []
    for i, request in enumerate(requests):
        flags = request.flags | NLM_F_REQUEST | (NLM_F_ACK if i == last else 0)
        size = _HEADER.size + len(request.body)
        parts.append(_HEADER.pack(size, request.kind, flags, first_seq + i, 0))
        parts.append(request.body)
    return b"".join(parts)  # bodies are sums of attributes, hence aligned


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the kernel said to the request numbered *seq*; errno 0 is an acknowledgement."""

    seq: int
    errno: int
    detail: str = ""


def decode(datagram: bytes) -> list[Answer]:
    """Parse the answers in *datagram*; anything but NLMSG_ERROR is not ours and an Internal error."""
    answers = []
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        size, kind, flags, seq, _pid = _HEADER.unpack_from(datagram, offset)
        if kind != _NLMSG_ERROR or size < _HEADER.size + 4 or offset + size > len(datagram):
            raise Internal(f"netlink answer of type {kind} and {size} bytes is not an ack")
        (code,) = struct.unpack_from("=i", datagram, offset + _HEADER.size)
        # struct nlmsgerr holds the request's header too; with CAP_ACK nothing else of it.
        tlvs = datagram[offset + 2 * _HEADER.size + 4 : offset + size]
        detail = _kernel_words(tlvs) if flags & _NLM_F_ACK_TLVS else ""
        answers.append(Answer(seq=seq, errno=-code, detail=detail))
        offset += (size + 3) & ~3
    return answers


def _kernel_words(tlvs: bytes) -> str:
    offset = 0
    while offset + 4 <= len(tlvs):
        size, kind = _ATTRIBUTE.unpack_from(tlvs, offset)
        if size < 4:
            break
        if kind == _NLMSGERR_ATTR_MSG:
            return tlvs[offset + 4 : offset + size].rstrip(b"\0").decode(errors="replace")
        offset += (size + 3) & ~3
    return ""


class Rtnl:
    """A netlink socket in the network namespace of the thread that makes it; blocking."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE
        )
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._seq = 1

    def execute(self, requests: Sequence[Request], subject: str = "") -> None:
        """Execute *requests* in order; raise SetupFailed naming the first that failed."""
        first = self._seq
        last = first + len(requests) - 1
        self._seq = last + 1
        self._socket.send(encode(requests, first))
        failed: Answer | None = None
        answered = 0
        while answered != last:
            for answer in decode(self._socket.recv(65536)):
                answered = answer.seq
                if answer.errno and failed is None:
                    failed = answer
        if failed is not None:
            raise _failure(requests[failed.seq - first], failed, subject)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Rtnl:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _failure(request: Request, answer: Answer, subject: str) -> SetupFailed:
    reason = os.strerror(answer.errno).lower()
    detail = f"{reason} ({answer.detail})" if answer.detail else ""
    return SetupFailed(request.what, errno=answer.errno, subject=subject, detail=detail)
