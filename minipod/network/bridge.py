"""The node's bridge: made at the first start, kept between starts, removed by reset.

pyroute2 is imported only when there is something to make (125 ms, 12 MB): a node that starts again finds its bridge by
one look at /sys. Forwarding is switched on without losing the host's own IPv6 route: an interface that accepted router
advertisements does so no longer once it forwards, unless accept_ra is 2.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from minipod.errors import SetupFailed
from minipod.network.ipam import Subnets
from minipod.network.rtnl import Rtnl
from minipod.network.veth import delete_request

if TYPE_CHECKING:
    from ipaddress import IPv4Interface, IPv6Interface

    from pyroute2 import IPRoute


def index_of(name: str) -> int | None:
    """Return the interface's index, None when there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def ensure(name: str, subnets: Subnets) -> int:
    """Make the bridge with its gateway addresses, up; return its index. Idempotent.

    One that is there gets the addresses that it lacks: the node's subnets may have been set anew since. It keeps the others, for pods
    that were left running.
    """
    index = index_of(name)
    if index is None:
        _make(name, subnets)
        index = socket.if_nametoindex(name)
    elif missing := [gateway for gateway in _gateways(subnets) if not _is_local(gateway)]:
        from pyroute2 import IPRoute  # heavy; only when there is something to make

        with IPRoute() as ip:
            for gateway in missing:
                _give(ip, index, gateway)
    return index


def _gateways(subnets: Subnets) -> tuple[IPv4Interface | IPv6Interface, ...]:
    gateway4, gateway6 = subnets.at(1)
    return (gateway4, gateway6) if os.path.exists("/proc/sys/net/ipv6") else (gateway4,)


def _is_local(gateway: IPv4Interface | IPv6Interface) -> bool:
    """Whether the machine has the address: it can be bound then, and not otherwise (ip(7), EADDRNOTAVAIL)."""
    family = socket.AF_INET6 if gateway.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        try:
            s.bind((str(gateway.ip), 0))
        except OSError:
            return False
    return True


def _give(ip: IPRoute, index: int, gateway: IPv4Interface | IPv6Interface) -> None:
    words: dict[str, int] = {"prefixlen": gateway.network.prefixlen}
    if gateway.version == 6:
        words |= {"family": socket.AF_INET6, "flags": 0x02}  # IFA_F_NODAD: usable at once
    ip.addr("add", index=index, address=str(gateway.ip), **words)


def _make(name: str, subnets: Subnets) -> None:
    from pyroute2 import IPRoute  # heavy; only when the bridge is missing

    with IPRoute() as ip:
        ip.link("add", ifname=name, kind="bridge")
        index = ip.link_lookup(ifname=name)[0]
        try:
            # A bridge takes the lowest address of its ports otherwise, and changes with them.
            ip.link("set", index=index, address="02:6d:00:00:00:01")
            for gateway in _gateways(subnets):
                _give(ip, index, gateway)
            ip.link("set", index=index, state="up")
        except BaseException:
            ip.link("del", index=index)
            raise


def remove(name: str) -> None:
    """Remove the bridge, or another link. Idempotent."""
    if index_of(name) is None:
        return
    try:
        with Rtnl() as host:
            host.execute((delete_request(name),), name)
    except SetupFailed:
        if index_of(name) is not None:
            raise  # else it went by itself: the kernel has taken its namespace down


def refuse_advertisements(name: str) -> None:
    """Take no router advertisement on *name*, in this thread's namespace: a pod could become everyone's router (CVE-2020-10749)."""
    path = f"/proc/sys/net/ipv6/conf/{name}/accept_ra"
    if os.path.exists(path):
        write(path, "0")


def enable_forwarding() -> None:
    """Forward packets between pods and the outside."""
    base = "/proc/sys/net/ipv6/conf"
    if os.path.isdir(base) and read(f"{base}/all/forwarding") == "0":
        for name in os.listdir(base):
            if name not in ("all", "default") and read(f"{base}/{name}/accept_ra") == "1":
                write(f"{base}/{name}/accept_ra", "2")
        write(f"{base}/all/forwarding", "1")
    if read("/proc/sys/net/ipv4/ip_forward") == "0":
        write("/proc/sys/net/ipv4/ip_forward", "1")


def read(path: str) -> str:
    with open(path, encoding="ascii") as f:
        return f.read().strip()


def write(path: str, value: str) -> None:
    with open(path, "w", encoding="ascii") as f:
        f.write(value)
