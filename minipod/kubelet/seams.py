"""The kubelet's seams: the store of `minipod.api`, and how it learns of the node's resolver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from minipod.api.store import Event, Store
from minipod.spec.container import Resources
from minipod.spec.sandbox import DnsConfig

HostDns = Callable[
    [], DnsConfig
]  # the node's resolver, a loopback one replaced by the real upstream

Reclaim = Callable[[], Awaitable[None]]  # remove unused images: the disk is short

LimitCgroup = Callable[[str, Resources], None]  # make a cgroup below the node's, with these limits

__all__ = ["Event", "HostDns", "LimitCgroup", "Reclaim", "Store"]
