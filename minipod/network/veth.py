"""A pod's veth pair as netlink requests: what the node's side and the pod's side are asked to do.

Pure: values in, `rtnl.Request`s out. The peer is born as `eth0` inside the pod's namespace (IFLA_NET_NS_FD within
VETH_INFO_PEER). Its index is looked up there: veth takes an index for the peer only when the node's end names one too.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from minipod.network import rtnl
from minipod.network.rtnl import Request

IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

CREATE: Final = "create veth pair"  # the request before which there is nothing to undo

_LO_INDEX: Final = 1
_IFF_UP: Final = 1
_IFA_F_NODAD: Final = 2

_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_MASTER: Final = 10
_IFLA_LINKINFO: Final = 18
_IFLA_AF_SPEC: Final = 26
_IFLA_NET_NS_FD: Final = 28
_INFO_KIND: Final = 1
_INFO_DATA: Final = 2
_INFO_SLAVE_KIND: Final = 4
_INFO_SLAVE_DATA: Final = 5
_VETH_INFO_PEER: Final = 1
_BRPORT_MODE: Final = 4  # hairpin
_INET6_ADDR_GEN_MODE: Final = 8
_ADDR_GEN_NONE: Final = 1
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_BROADCAST: Final = 4
_RTA_OIF: Final = 4
_RTA_GATEWAY: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLink:
    """Everything that one pod's link is made from."""

    host_name: str  # the node's end
    master: int  # index of the bridge
    mtu: int
    addresses: tuple[IPInterface, ...]  # IPv4 first
    gateways: tuple[IPAddress, ...]
    ipv6: bool

    @property
    def mac(self) -> bytes:
        """02:6d + the IPv4 address: who gets the address anew is right in every neighbour cache."""
        return b"\x02\x6d" + self.addresses[0].ip.packed


def host_requests(link: PodLink, netns_fd: int) -> Sequence[Request]:
    """Create the pair, the peer in *netns_fd*; set the bridge port up."""
    peer = (
        rtnl.ifinfomsg()
        + rtnl.text(_IFLA_IFNAME, "eth0")
        + rtnl.attribute(_IFLA_ADDRESS, link.mac)
        + rtnl.u32(_IFLA_MTU, link.mtu)
        + rtnl.u32(_IFLA_NET_NS_FD, netns_fd)
    )
    create = (
        rtnl.ifinfomsg()
        + rtnl.text(_IFLA_IFNAME, link.host_name)
        # An address of our choice: udev replaces random ones (MACAddressPolicy=persistent).
        + rtnl.attribute(_IFLA_ADDRESS, b"\xfe" + link.mac[1:])
        + rtnl.u32(_IFLA_MTU, link.mtu)
        + rtnl.u32(_IFLA_MASTER, link.master)
        + rtnl.nested(
            _IFLA_LINKINFO,
            rtnl.text(_INFO_KIND, "veth"),
            rtnl.nested(_INFO_DATA, rtnl.nested(_VETH_INFO_PEER, peer)),
        )
    )
    flags = rtnl.NLM_F_CREATE | rtnl.NLM_F_EXCL
    return (
        Request(what=CREATE, kind=rtnl.RTM_NEWLINK, flags=flags, body=create),
        _port(link.host_name, ipv6=link.ipv6),
        Request(
            what="set host link up",  # after the port's modes: do_setlink() would raise it first
            kind=rtnl.RTM_NEWLINK,
            body=rtnl.ifinfomsg(flags=_IFF_UP, change=_IFF_UP)
            + rtnl.text(_IFLA_IFNAME, link.host_name),
        ),
    )


def join_requests(host_name: str, master: int, *, ipv6: bool) -> Sequence[Request]:
    """Put the node's end of a pair that exists on another bridge."""
    body = rtnl.ifinfomsg() + rtnl.text(_IFLA_IFNAME, host_name) + rtnl.u32(_IFLA_MASTER, master)
    join = Request(what="join the bridge", kind=rtnl.RTM_NEWLINK, body=body)
    return join, _port(host_name, ipv6=ipv6)


def _port(host_name: str, *, ipv6: bool) -> Request:
    # Hairpin: a pod must reach itself by an address that NAT turns back to it.
    body = (
        rtnl.ifinfomsg()
        + rtnl.text(_IFLA_IFNAME, host_name)
        + rtnl.nested(
            _IFLA_LINKINFO,
            rtnl.text(_INFO_SLAVE_KIND, "bridge"),
            rtnl.nested(_INFO_SLAVE_DATA, rtnl.attribute(_BRPORT_MODE, b"\1")),
        )
    )
    if ipv6:  # a bridge port needs no link-local address, nor the traffic of detecting it
        gen_mode = rtnl.attribute(_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE]))
        body += rtnl.nested(_IFLA_AF_SPEC, rtnl.nested(socket.AF_INET6, gen_mode))
    return Request(what="configure bridge port", kind=rtnl.RTM_NEWLINK, body=body)


def pod_requests(link: PodLink, index: int) -> Sequence[Request]:
    """Inside the pod, *index* being eth0's: loopback up, addresses, eth0 up, default routes (they need the link up)."""
    return (
        _up("set loopback up", _LO_INDEX),
        *(_add_address(a, index) for a in link.addresses),
        _up("set eth0 up", index),
        *(_default_route(gateway, index) for gateway in link.gateways),
    )


def delete_request(host_name: str) -> Request:
    """Delete the pair, from the node's side."""
    body = rtnl.ifinfomsg() + rtnl.text(_IFLA_IFNAME, host_name)
    return Request(what="delete link", kind=rtnl.RTM_DELLINK, body=body)


def _up(what: str, index: int) -> Request:
    body = rtnl.ifinfomsg(index=index, flags=_IFF_UP, change=_IFF_UP)
    return Request(what=what, kind=rtnl.RTM_NEWLINK, body=body)


def _add_address(address: IPInterface, index: int) -> Request:
    # Duplicate address detection would hold the address back for 1.8 s; the lease makes it ours.
    v6 = address.version == 6
    body = rtnl.ifaddrmsg(
        family=socket.AF_INET6 if v6 else socket.AF_INET,
        prefix=address.network.prefixlen,
        flags=_IFA_F_NODAD if v6 else 0,
        index=index,
    )
    body += rtnl.attribute(_IFA_LOCAL, address.ip.packed)
    body += rtnl.attribute(_IFA_ADDRESS, address.ip.packed)
    if not v6:
        body += rtnl.attribute(_IFA_BROADCAST, address.network.broadcast_address.packed)
    flags = rtnl.NLM_F_CREATE | rtnl.NLM_F_EXCL
    what = f"add address {address}"
    return Request(what=what, kind=rtnl.RTM_NEWADDR, flags=flags, body=body)


def _default_route(gateway: IPAddress, index: int) -> Request:
    family = socket.AF_INET6 if gateway.version == 6 else socket.AF_INET
    body = (
        rtnl.default_rtmsg(family)
        + rtnl.attribute(_RTA_GATEWAY, gateway.packed)
        + rtnl.attribute(_RTA_OIF, struct.pack("=i", index))
    )
    flags = rtnl.NLM_F_CREATE | rtnl.NLM_F_EXCL
    what = f"add default route via {gateway}"
    return Request(what=what, kind=rtnl.RTM_NEWROUTE, flags=flags, body=body)
