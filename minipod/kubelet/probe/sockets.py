"""Probe connections: non-blocking sockets on the loop, one per attempt, closed without TIME_WAIT.

SO_LINGER (1, 0) resets at close: thousands of probes leave no TIME_WAIT behind (#115143), and a
positive linger would block the thread when the peer is silent.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct

_RESET = struct.pack("ii", 1, 0)


def join_host_port(host: str, port: int) -> str:
    """`host:port` as Go's net.JoinHostPort writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def describe(error: OSError) -> str:
    """The kernel's words as Go prints them."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


async def dial(host: str, port: int) -> socket.socket:
    """Connect; the caller closes with `close`. Raises OSError."""
    family, address = await _address(host, port)
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        close(sock)
        raise
    return sock


def close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


async def _address(host: str, port: int) -> tuple[int, tuple[str, int]]:
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:  # a name: rare, and the only way to a thread
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return found[0][0], (str(found[0][4][0]), port)
    return family, (host, port)
