"""Hears from the kernel that somebody deleted rules of ours: `nft flush ruleset`, a restart of nftables.service.

Every change of a ruleset is told to the group NFNLGRP_NFTABLES of netlink's netfilter family (linux/netfilter/nfnetlink.h), one message
for each thing added or deleted. Only deletions in our tables matter, but for elements of maps, which are pods that go. Who deleted is not
asked: the owner of the tables looks whether they are whole. Elements of maps that an administrator takes out alone stay out.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_NFNLGRP_NFTABLES = 7
_NFNL_SUBSYS_NFTABLES = 10
# Messages that tables, chains, rules, sets are deleted: NFT_MSG_DELTABLE and its like (linux/netfilter/nf_tables.h).
_DELETIONS = (2, 5, 8, 11)
_NFTA_TABLE = 1  # the name of the table is the first attribute in all of them
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_BEGIN = _HEADER.size + 4  # behind struct nfgenmsg


class RulesWatch:
    """Calls *deleted* in the loop, once for a burst of messages, when something of *tables* was deleted."""

    def __init__(self, tables: Iterable[str], deleted: Callable[[], None]) -> None:
        self._tables = {name.encode() for name in tables}
        self._deleted = deleted
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        concerned = False
        while True:
            try:
                concerned |= bool(self._tables & deletions(self._socket.recv(1 << 16)))
            except BlockingIOError:
                break
            except OSError:
                concerned = True  # ENOBUFS: more than fits was told, perhaps of us
        if concerned:
            self._deleted()


def deletions(datagram: bytes) -> set[bytes]:
    """Return the names of the tables in which something was deleted. Pure."""
    found = set()
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        size, kind, _, _, _ = _HEADER.unpack_from(datagram, offset)
        if size < _HEADER.size:
            break
        if kind >> 8 == _NFNL_SUBSYS_NFTABLES and kind & 0xFF in _DELETIONS and size > _BEGIN + 4:
            length, attribute = struct.unpack_from("=HH", datagram, offset + _BEGIN)
            if attribute == _NFTA_TABLE:
                name = datagram[offset + _BEGIN + 4 : offset + _BEGIN + length]
                found.add(name.rstrip(b"\0"))
        offset += (size + 3) & ~3
    return found
