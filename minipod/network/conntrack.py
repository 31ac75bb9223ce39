"""Forgets datagram flows that lead to where a host port no longer leads (ctnetlink, linux/netfilter/nfnetlink_conntrack.h).

The kernel translates the first packet of a flow and remembers the answer. A client that goes on sending from one port, as DNS, SIP and
QUIC clients do, would be led to a pod that is gone, or to no pod at all, for as long as it sends. kube-proxy deletes such entries, too.

The kernel chooses the entries (CTA_FILTER, Linux 5.8); an older one lists all of them, and they are chosen here. A kernel without
connection tracking over netlink has nothing to forget as far as we know: that is logged once. Synchronous.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from minipod.network.rtnl import NLM_F_ACK, NLM_F_REQUEST, attribute, nested

logger = logging.getLogger(__name__)

_NETLINK_NETFILTER: Final = 12
_SUBSYSTEM: Final = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2  # IPCTNL_MSG_CT_*
_NLM_F_DUMP: Final = 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTRIBUTE: Final = struct.Struct("=HH")
_NESTED_MASK: Final = 0x3FFF  # without NLA_F_NESTED, NLA_F_NET_BYTEORDER

_ORIG, _REPLY, _ZONE, _FILTER = 1, 2, 18, 25  # CTA_*
_IP, _PROTO = 1, 2  # CTA_TUPLE_*
# CTA_IP_V4_SRC, CTA_IP_V6_SRC
_SOURCE: Final[dict[int, int]] = {socket.AF_INET: 1, socket.AF_INET6: 3}
_NUMBER, _SOURCE_PORT, _TARGET_PORT = 1, 2, 3  # CTA_PROTO_*
_BY_IP_SOURCE, _BY_NUMBER, _BY_SOURCE_PORT, _BY_TARGET_PORT = 1 << 0, 1 << 3, 1 << 4, 1 << 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """One entry: what is compared, and what deletes it."""

    target_port: int  # of the original direction
    answers_from: bytes  # the address that answers, packed
    answers_port: int
    key: bytes  # CTA_TUPLE_ORIG and CTA_ZONE as they came


class Conntrack:
    """See the module; a socket is opened when there is something to forget, in the thread's network namespace."""

    def __init__(self) -> None:
        self._told = False

    def forget_port(self, family: int, port: int, backend: tuple[str, int]) -> None:
        """UDP flows to *port* of the node that another than *backend* (address, port) answers."""
        new = (_packed(backend[0]), backend[1])
        by = nested(_ORIG, _proto(_TARGET_PORT, port))
        self._forget(
            family, by + _filter(_BY_NUMBER | _BY_TARGET_PORT, 0),
            lambda flow: flow.target_port == port and (flow.answers_from, flow.answers_port) != new,
        )  # fmt: skip

    def forget_backend(self, family: int, backend: tuple[str, int]) -> None:
        """UDP flows that *backend* (address, port) answers."""
        old = (_packed(backend[0]), backend[1])
        address = nested(_IP, attribute(_SOURCE[family], old[0]))
        by = nested(_REPLY, address, _proto(_SOURCE_PORT, backend[1]))
        self._forget(
            family, by + _filter(0, _BY_IP_SOURCE | _BY_NUMBER | _BY_SOURCE_PORT),
            lambda flow: (flow.answers_from, flow.answers_port) == old,
        )  # fmt: skip

    def _forget(self, family: int, by: bytes, chosen: Callable[[Flow], bool]) -> None:
        try:
            with _open() as netlink:
                found = [f for f in _dump(netlink, family, by) if chosen(f)]
                for flow in found:
                    _delete(netlink, family, flow.key)
        except OSError as e:
            if not self._told:
                logger.info("flows of host ports are not forgotten: %s", e.strerror)
            self._told = True


def _open() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    return socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _proto(which: int, port: int) -> bytes:
    number = attribute(_NUMBER, bytes((socket.IPPROTO_UDP,)))
    return nested(_PROTO, number, attribute(which, port.to_bytes(2, "big")))


def _filter(original: int, reply: int) -> bytes:
    flags = [attribute(1, struct.pack("=I", original)), attribute(2, struct.pack("=I", reply))]
    return nested(_FILTER, *flags)


def _send(netlink: socket.socket, kind: int, flags: int, family: int, attributes: bytes) -> None:
    body = bytes((family, 0, 0, 0)) + attributes  # struct nfgenmsg
    header = _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST, 1, 0)
    netlink.send(header + body)


def _messages(netlink: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of the answers, to the end of a dump or an acknowledgement. Raises OSError."""
    while True:
        datagram = netlink.recv(1 << 18)
        offset = 0
        while offset + _HEADER.size <= len(datagram):
            size, kind, _flags, _seq, _pid = _HEADER.unpack_from(datagram, offset)
            content = datagram[offset + _HEADER.size : offset + size]
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", content)
                if code:
                    raise OSError(-code, os.strerror(-code), "ctnetlink")
                return
            yield kind, content
            offset += (size + 3) & ~3


def _dump(netlink: socket.socket, family: int, by: bytes) -> list[Flow]:
    _send(netlink, _GET, _NLM_F_DUMP, family, by)
    found = (_flow(family, content[4:]) for _, content in _messages(netlink))
    return [flow for flow in found if flow is not None]


def _delete(netlink: socket.socket, family: int, key: bytes) -> None:
    _send(netlink, _DELETE, NLM_F_ACK, family, key)
    try:
        for _ in _messages(netlink):
            pass
    except OSError as e:
        if e.errno != errno.ENOENT:  # it has ended meanwhile
            raise


def _flow(family: int, content: bytes) -> Flow | None:
    """Read one entry; None for another protocol than UDP."""
    given = _attributes(content)
    original, reply = _attributes(given.get(_ORIG, b"")), _attributes(given.get(_REPLY, b""))
    ports, answer = _attributes(original.get(_PROTO, b"")), _attributes(reply.get(_PROTO, b""))
    if ports.get(_NUMBER, b"\0")[0] != socket.IPPROTO_UDP:
        return None
    zone = attribute(_ZONE, given[_ZONE]) if _ZONE in given else b""
    return Flow(
        target_port=int.from_bytes(ports.get(_TARGET_PORT, b""), "big"),
        answers_from=_attributes(reply.get(_IP, b"")).get(_SOURCE[family], b""),
        answers_port=int.from_bytes(answer.get(_SOURCE_PORT, b""), "big"),
        key=nested(_ORIG, given[_ORIG]) + zone,
    )


def _attributes(content: bytes) -> dict[int, bytes]:
    found, offset = {}, 0
    while offset + 4 <= len(content):
        size, kind = _ATTRIBUTE.unpack_from(content, offset)
        if size < 4:
            break
        found[kind & _NESTED_MASK] = content[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found
