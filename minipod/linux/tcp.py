"""TCP connections: what the kernel knows of one (tcp(7), TCP_INFO; linux/tcp.h, struct tcp_info), and its end without its socket's."""

from __future__ import annotations

import socket as sockets
import struct
from dataclasses import dataclass
from typing import Final

from minipod.linux.libc import check, libc

_SIZE: Final = 232  # bytes, up to tcpi_snd_wnd
_U32: Final = struct.Struct("=I")

_NOBODY: Final = bytes(16)  # a sockaddr with sa_family AF_UNSPEC


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpInfo:
    """The fields that are needed, by their names there without tcpi_."""

    retransmits: int  # of what was sent last, unanswered
    probes: int  # of a closed window or for keepalive, unanswered
    last_ack_recv: int  # milliseconds since
    snd_wnd: int  # bytes that the peer takes; 0 also where the kernel does not tell (before 5.4)


def tcp_info(socket: sockets.socket) -> TcpInfo:
    """getsockopt(2), TCP_INFO."""
    info = socket.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_INFO, _SIZE)
    known = info + bytes(_SIZE - len(info))  # an older kernel tells less
    return TcpInfo(
        retransmits=known[2],
        probes=known[3],
        last_ack_recv=_U32.unpack_from(known, 56)[0],
        snd_wnd=_U32.unpack_from(known, 228)[0],
    )


def disconnect(fd: int) -> None:
    """connect(2) to AF_UNSPEC: reset the connection; the socket has none then, and may connect anew, from another port."""
    check(libc.connect(fd, _NOBODY, len(_NOBODY)))
