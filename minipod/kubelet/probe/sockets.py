"""Probe connections: non-blocking sockets, one per attempt, closed without TIME_WAIT.

SO_LINGER (1, 0) resets at close: thousands of probes leave no TIME_WAIT behind (#115143), and a positive linger would block
the thread when the peer is silent. Hosts are addresses here; `resolve` turns a name (rare) into one before the flight starts.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import struct
from functools import lru_cache

from minipod.kubelet.probe.flight import Socket, readable, writable

_KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_RESET = struct.pack("ii", 1, 0)
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)


class DialError(Exception):
    """No connection; the text is Go's, without the request around it: `dial tcp ...`."""


class ReadError(Exception):
    """A connection that broke: `read tcp ...`."""


def join_host_port(host: str, port: int) -> str:
    """`host:port` as Go's net.JoinHostPort writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def describe(error: OSError) -> str:
    """The kernel's words as Go prints them."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


@lru_cache(maxsize=4096)
def family_of(host: str) -> int:
    """AF_INET or AF_INET6 for an address, 0 for a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return 0
    return socket.AF_INET6 if version == 6 else socket.AF_INET


async def resolve(host: str) -> str:
    """The first address of *host*; awaits in asyncio, not in a flight. Raises DialError."""
    if family_of(host):
        return host
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:  # gaierror among them
        raise DialError(f"dial tcp: lookup {host}: no such host") from None
    return str(found[0][4][0])


async def dial(address: str, port: int) -> Socket:
    """Connect; the caller closes with `close`. Raises DialError, Deadline."""
    sock = Socket(family_of(address), _KIND)
    try:
        code = sock.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            # Within one host the handshake is over when connect(2) returns: asking again is
            # cheaper than a turn through epoll.
            code = sock.connect_ex((address, port))
            while code in _UNDER_WAY:
                await writable(sock)
                code = sock.connect_ex((address, port))
    except BaseException:
        close(sock)
        raise
    if code not in (0, errno.EISCONN):
        close(sock)
        why = os.strerror(code).lower()
        raise DialError(f"dial tcp {join_host_port(address, port)}: connect: {why}")
    return sock


async def send(sock: Socket, payload: bytes) -> None:
    """Write all of *payload*. Raises ReadError, Deadline."""
    while payload:
        try:
            sent = sock.send(payload)
        except BlockingIOError:
            await writable(sock)
        except OSError as error:
            raise ReadError(_broken(sock, "write", error)) from error
        else:
            if sent == len(payload):
                return
            payload = payload[sent:]


async def receive(sock: Socket, size: int = 4096) -> bytes:
    """The next bytes, b"" at the end. Raises ReadError, Deadline."""
    while True:
        try:
            return sock.recv(size)
        except BlockingIOError:
            await readable(sock)
        except OSError as error:
            raise ReadError(_broken(sock, "read", error)) from error


def close(sock: Socket) -> None:
    """Close with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def _broken(sock: Socket, verb: str, error: OSError) -> str:
    try:
        ends = (join_host_port(*name[:2]) for name in (sock.getsockname(), sock.getpeername()))
        where = "->".join(ends)
    except OSError:  # the peer's name is gone with the connection
        where = join_host_port(*sock.getsockname()[:2])
    return f"{verb} tcp {where}: {verb}: {describe(error)}"
