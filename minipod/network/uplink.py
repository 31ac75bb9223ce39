"""The node's way to the outside: its MTU, which the pods' links take over.

A pod whose link carries more than the uplink (1450 on many overlay networks) would lose large packets wherever ICMP is filtered.
Read from /proc/net/route and /proc/net/ipv6_route (proc(5)); no netlink, no library.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

ETHERNET: Final = 1500  # bytes; for a node that has no default route


def mtu() -> int:
    """Return the smallest MTU in bytes of the interfaces that have a default route in this network namespace."""
    return min(map(_mtu_of, set(_default_interfaces())), default=ETHERNET)


def _mtu_of(interface: str) -> int:
    with open(f"/sys/class/net/{interface}/mtu", encoding="ascii") as f:
        return int(f.read())


def _default_interfaces() -> Iterator[str]:
    for row in _rows("/proc/net/route"):  # Iface Destination Gateway ...
        if row[1] == "00000000":
            yield row[0]
    for row in _rows("/proc/net/ipv6_route"):  # destination, prefix length, ... device
        if row[0] == "0" * 32 and row[1] == "00" and row[-1] != "lo":
            yield row[-1]


def _rows(path: str) -> Iterator[list[str]]:
    try:
        with open(path, encoding="ascii") as f:
            yield from (fields for line in f if (fields := line.split()))
    except FileNotFoundError:
        return  # a kernel without this family
