"""Bandwidth of a pod: token buckets on both ends of its link (tc-tbf(8)), as netlink requests. Pure.

What the node sends into the pair is the pod's ingress, what eth0 sends is its egress. A container with CAP_NET_ADMIN could take the
bucket off eth0.
"""

from __future__ import annotations

import struct
from typing import Final

from minipod.network import rtnl
from minipod.network.rtnl import Request

_RTM_NEWQDISC: Final = 36
_TCMSG: Final = struct.Struct("=BxxxiIII")
_TC_H_ROOT: Final = 0xFFFFFFFF
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_RATESPEC: Final = struct.Struct("=BBHhHI")  # struct tc_ratespec
_LATENCY: Final = 0.025  # seconds that a packet may wait, as the CNI plugin bandwidth has it
_BURST_TIME: Final = 0.1  # seconds of traffic that may come at once
_BURST_MIN: Final = 64 << 10  # bytes: a large packet of segmentation offload must pass


def limit_requests(index: int, bits: int) -> tuple[Request, ...]:
    """Limit what interface *index* sends to *bits* a second."""
    rate = bits // 8
    burst = max(_BURST_MIN, int(rate * _BURST_TIME))
    spec = _RATESPEC.pack(0, 0, 0, 0, 0, min(rate, 0xFFFFFFFF))
    parameters = (
        spec + bytes(_RATESPEC.size) + struct.pack("=III", burst + int(rate * _LATENCY), 0, 0)
    )
    options = (
        rtnl.attribute(_TBF_PARMS, parameters),
        rtnl.u32(_TBF_BURST, burst),
        *((rtnl.attribute(_TBF_RATE64, struct.pack("=Q", rate)),) if rate > 0xFFFFFFFF else ()),
    )
    body = (
        _TCMSG.pack(0, index, 0, _TC_H_ROOT, 0)
        + rtnl.text(_TCA_KIND, "tbf")
        + rtnl.nested(_TCA_OPTIONS, *options)
    )
    flags = rtnl.NLM_F_CREATE | rtnl.NLM_F_REPLACE
    return (Request(what=f"limit to {bits} bit/s", kind=_RTM_NEWQDISC, flags=flags, body=body),)
