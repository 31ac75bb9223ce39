"""Probe connections: one per attempt, over non-blocking sockets that are used again.

A connection ends with a reset: thousands of probes leave no TIME_WAIT behind (#115143). Its socket is kept for the next one: to
make and to close a socket takes a third of what a connection costs. Hosts are addresses here; `resolve` turns a name (rare) into one
before the flight starts.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import ipaddress
import os
import socket
from functools import lru_cache
from typing import Final

from minipod.kubelet.probe.flight import Socket, readable, writable
from minipod.linux.tcp import disconnect

_KIND = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)
_SPARE_MAX: Final = 64  # sockets of a family that wait for the next connection
_spare: Final[dict[int, list[Socket]]] = {socket.AF_INET: [], socket.AF_INET6: []}


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
    """Connect; the caller ends it with `hang_up`. Raises DialError, Deadline."""
    family = family_of(address)
    sock = _spare[family].pop() if _spare[family] else Socket(family, _KIND)
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
        hang_up(sock)
        raise
    if code not in (0, errno.EISCONN):
        hang_up(sock)
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


def hang_up(sock: Socket) -> None:
    """End a connection with a reset; the socket is not the caller's any more."""
    disconnect(sock.fileno())
    spare = _spare[sock.family]
    if len(spare) < _SPARE_MAX:
        spare.append(sock)
    else:
        sock.close()


@atexit.register
def _close_spare() -> None:
    for spare in _spare.values():
        while spare:
            spare.pop().close()


def _broken(sock: Socket, verb: str, error: OSError) -> str:
    try:
        ends = (join_host_port(*name[:2]) for name in (sock.getsockname(), sock.getpeername()))
        where = "->".join(ends)
    except OSError:  # the peer's name is gone with the connection
        where = join_host_port(*sock.getsockname()[:2])
    return f"{verb} tcp {where}: {verb}: {describe(error)}"
