"""Probe connections: one per attempt, over non-blocking sockets that are used again.

A connection ends with a reset: thousands of probes leave no TIME_WAIT behind (#115143). Its socket is kept for the next one: to
make and to close a socket takes a third of what a connection costs. `dial` is for who wants a connection, `call` for who has something
to say, which then is its handshake's last packet. Hosts are addresses here; `resolve` turns a name (rare) into one before the flight
starts.
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
_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY, errno.EAGAIN)
_SPARE_MAX: Final = 64  # sockets of one kind that wait for the next connection
# By family, and whether we speak first: then the handshake's last packet is our first.
_spare: Final[dict[tuple[int, bool], list[Socket]]] = {
    (family, speaks): [] for family in (socket.AF_INET, socket.AF_INET6) for speaks in (False, True)
}


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
    sock, where = _socket(address, speaks=False), (address, port)
    try:
        code = sock.connect_ex(where)
        if code == errno.EINPROGRESS:
            # Within one host the handshake is over when connect(2) returns: asking again is
            # cheaper than a turn through epoll.
            code = sock.connect_ex(where)
        if code:
            await _connected(sock, where, code)
    except BaseException:
        hang_up(sock)
        raise
    return sock


async def call(address: str, port: int, payload: bytes) -> Socket:
    """Connect and send *payload*; the caller ends it with `hang_up`. Raises DialError, ReadError, Deadline."""
    sock, where = _socket(address, speaks=True), (address, port)
    try:
        code, sent = sock.connect_ex(where), 0
        if code == errno.EINPROGRESS:
            try:
                sent = sock.send(payload)  # within one host this is the handshake's last packet
                code = 0
            except OSError as error:
                code = error.errno or 0
        if code:
            await _connected(sock, where, code)
        if sent < len(payload):
            await send(sock, payload[sent:])
    except BaseException:
        hang_up(sock)
        raise
    return sock


def _socket(address: str, *, speaks: bool) -> Socket:
    family = family_of(address)
    pool = _spare[family, speaks]
    if pool:
        return pool.pop()
    sock = Socket(family, _KIND)
    sock.pool = pool
    # What the host has instead may cost more: bbr sets a timer for each request.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    if speaks:
        # tcp(7) tells what it does to servers. A client's last ACK of the handshake waits for what
        # it is going to send (net/ipv4/tcp_input.c, tcp_rcv_synsent_state_process): one packet less.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
    return sock


async def _connected(sock: Socket, where: tuple[str, int], code: int) -> None:
    """Wait for the end of the handshake; *code* is what the last call said of it."""
    while code in _UNDER_WAY:
        await writable(sock)
        code = sock.connect_ex(where)
    if code not in (0, errno.EISCONN):
        why = os.strerror(code).lower()
        raise DialError(f"dial tcp {join_host_port(*where)}: connect: {why}")


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
    pool = sock.pool
    if len(pool) < _SPARE_MAX:
        pool.append(sock)
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
