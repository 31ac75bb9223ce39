"""The pod network of one node: bridge, addresses, links. Everything that enters a namespace runs in one worker thread.

    start()                       bridge, forwarding, masquerade: once, idempotent; a bridge that somebody deletes is made again with the
                                  next link, or the next start
    lease(sandbox)                its addresses: known before anything else of it is there
    attach(sandbox, netns fd)     veth pair, addresses, routes: two netlink batches, about a millisecond
    detach(sandbox)               free the lease; then the link goes, if its namespace did not take it along

The worker visits a pod's namespace to open a netlink socket there and comes back; sockets stay where they were opened. It is a thread
of ours because setns(2) of a network namespace concerns a thread only, and because the daemon never forks.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from minipod.errors import NotFound, SetupFailed
from minipod.linux import namespaces
from minipod.linux.flags import CloneFlag
from minipod.network import bridge, masquerade, uplink
from minipod.network.ipam import Leases, Subnets
from minipod.network.portmap import HostPorts, table_name
from minipod.network.rtnl import Rtnl
from minipod.network.rules_watch import RulesWatch
from minipod.network.shaping import limit_requests
from minipod.network.veth import (
    CREATE,
    PodLink,
    delete_request,
    host_requests,
    join_requests,
    pod_requests,
)
from minipod.spec.instance import Instance
from minipod.spec.sandbox import Bandwidth, PortMapping

logger = logging.getLogger(__name__)

_TCP = socket.SOCK_STREAM | socket.SOCK_NONBLOCK

T = TypeVar("T")
Ports = tuple[tuple[str, ...], tuple[PortMapping, ...]]  # addresses and host ports of a sandbox
UNLIMITED = Bandwidth()


class Network:
    """See the module. Raises SetupFailed from attach, with nothing but the lease left behind."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._subnets = Subnets.parse(instance.subnet4, instance.subnet6)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._ipv6 = os.path.exists("/proc/sys/net/ipv6")
        self._leases: Leases | None = None
        self._host: Rtnl | None = None  # opened in the worker, in the node's namespace
        self._bridge = 0
        self._ports = HostPorts(
            table=table_name(instance.nft_table),
            link=instance.bridge,
            subnet4=instance.subnet4,
            subnet6=instance.subnet6,
        )
        self._mtu = uplink.ETHERNET
        self._watch: RulesWatch | None = None

    async def start(self) -> None:
        """Make the bridge and the table, load the leases; from now on, rules of ours that somebody deletes come back."""
        tables = (self._instance.nft_table, self._ports.table)
        self._watch = RulesWatch(tables, self._rules_deleted)
        await self._run(self._start)

    async def stop(self) -> None:
        """Close our sockets; bridge and pods stay."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        await self._run(self._close)
        self._worker.shutdown()

    def lease(self, sandbox_id: str) -> tuple[str, ...]:
        """Lease addresses, IPv4 first, until `detach`. Raises Unavailable when none is left, AlreadyExists."""
        assert self._leases is not None
        link = self._link(sandbox_id, self._leases.allocate(sandbox_id))
        return tuple(str(a.ip) for a in link.addresses)

    async def attach(
        self, sandbox_id: str, netns_fd: int, bandwidth: Bandwidth = UNLIMITED
    ) -> None:
        """Connect the namespace, with the addresses that its sandbox leased. Raises NotFound: it did not."""
        await self._run(self._attach, sandbox_id, netns_fd, bandwidth)

    async def map_ports(
        self, sandbox_id: str, ips: tuple[str, ...], mappings: tuple[PortMapping, ...]
    ) -> None:
        """Open host ports of a sandbox. Raises SetupFailed."""
        if mappings:
            await self._run(self._map_ports, sandbox_id, ips, mappings)

    async def detach(self, sandbox_id: str) -> None:
        """Free the lease. Idempotent. Raises OSError.

        Nobody waits for the link: it goes with its namespace in a moment, unless an orphaned socket of the pod keeps that (the kernel sends
        what its process had said). It would answer by an address that may be another's.
        """
        assert self._leases is not None
        if self._ports.has(sandbox_id):
            await self._run(self._ports.remove, sandbox_id)
        self._leases.free(sandbox_id)
        self._worker.submit(self._cut, self.host_name(sandbox_id))

    async def recover(self, live: Mapping[str, Ports]) -> None:
        """Free leases and host ports of sandboxes that are no more; their links went with their namespaces."""
        await self._run(self._recover, live)

    async def socket_inside(self, netns_fd: int, family: int) -> socket.socket:
        """Return a non-blocking TCP socket that lives in the namespace (-1: in the node's). Raises OSError."""
        if netns_fd < 0:
            return socket.socket(family, _TCP)
        return await self._run(self._socket_inside, netns_fd, family)

    def _rules_deleted(self) -> None:
        self._worker.submit(self._restore_rules)

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)

    # -- in the worker

    def _start(self) -> None:
        instance = self._instance
        self._host = Rtnl()
        self._make_bridge()
        bridge.enable_forwarding()
        self._mtu = uplink.mtu()
        self._masquerade()
        self._leases = Leases(f"{instance.run_dir}/leases", self._subnets)
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def _make_bridge(self) -> None:
        """Make it unless it is there, with the links of pods that were on the one before."""
        name = self._instance.bridge
        missing = bridge.index_of(name) is None
        self._bridge = bridge.ensure(name, self._subnets)
        bridge.refuse_advertisements(name)
        for link in self._links() if missing else ():
            try:
                assert self._host is not None
                self._host.execute(join_requests(link, self._bridge, ipv6=self._ipv6), link)
            except SetupFailed as e:
                if e.errno != errno.ENODEV:  # else it has just gone with its pod
                    logger.warning("a pod's link stays off the bridge: %s", e)

    def _masquerade(self) -> None:
        instance = self._instance
        masquerade.install(instance.nft_table, instance.bridge, instance.subnet4, instance.subnet6)

    def _restore_rules(self) -> None:
        """Put back what is missing; our own changes are told to us, too, and miss nothing."""
        try:
            if not masquerade.whole(self._instance.nft_table):
                self._masquerade()
                logger.warning("somebody deleted rules of %s: put back", self._instance.nft_table)
            if self._ports.restore():
                logger.warning("somebody deleted rules of %s: put back", self._ports.table)
        except OSError as e:
            logger.error("rules that somebody deleted can't be put back: %s", e)  # noqa: TRY400

    def _close(self) -> None:
        if self._host is not None:
            self._host.close()
            os.close(self._home)
            self._host = None

    def _attach(self, sandbox_id: str, netns_fd: int, bandwidth: Bandwidth) -> None:
        assert self._leases is not None
        index = self._leases.index_of(sandbox_id)
        if index is None:
            raise NotFound(f"sandbox {sandbox_id} has no address")
        try:
            self._connect(self._link(sandbox_id, index), netns_fd, bandwidth)
        except SetupFailed as e:
            if e.step != CREATE or bridge.index_of(self._instance.bridge) == self._bridge:
                raise
            logger.warning("somebody deleted the bridge %s: made again", self._instance.bridge)
            self._make_bridge()
            self._connect(self._link(sandbox_id, index), netns_fd, bandwidth)

    def _map_ports(
        self, sandbox_id: str, ips: tuple[str, ...], mappings: tuple[PortMapping, ...]
    ) -> None:
        try:
            self._ports.add(sandbox_id, ips, mappings)
        except OSError as e:
            raise SetupFailed("host ports", subject=sandbox_id, detail=str(e.strerror)) from e

    def _connect(self, link: PodLink, netns_fd: int, bandwidth: Bandwidth) -> None:
        """Make the pair and set both ends up; a pair of ours that can't be finished goes."""
        assert self._host is not None
        try:
            self._host.execute(host_requests(link, netns_fd), link.host_name)
            if bandwidth.ingress:
                index = socket.if_nametoindex(link.host_name)
                self._host.execute(limit_requests(index, bandwidth.ingress), link.host_name)
            self._inside(link, netns_fd, bandwidth.egress)
        except (SetupFailed, OSError) as e:
            if not (isinstance(e, SetupFailed) and e.step == CREATE):
                self._host.execute((delete_request(link.host_name),), link.host_name)
            if isinstance(e, SetupFailed):
                raise
            subject, detail = str(e.filename or ""), str(e.strerror or e)
            raise SetupFailed("network", errno=e.errno or 0, subject=subject, detail=detail) from e

    def _inside(self, link: PodLink, netns_fd: int, egress: int) -> None:
        namespaces.setns(netns_fd, CloneFlag.CLONE_NEWNET)
        try:
            bridge.refuse_advertisements("eth0")  # before the link is up
            with Rtnl() as pod:
                index = socket.if_nametoindex("eth0")
                limits = limit_requests(index, egress) if egress else ()
                pod.execute((*pod_requests(link, index), *limits), "eth0")
        finally:
            namespaces.setns(self._home, CloneFlag.CLONE_NEWNET)

    def _socket_inside(self, netns_fd: int, family: int) -> socket.socket:
        namespaces.setns(netns_fd, CloneFlag.CLONE_NEWNET)
        try:
            return socket.socket(family, _TCP)
        finally:
            namespaces.setns(self._home, CloneFlag.CLONE_NEWNET)

    def _link(self, sandbox_id: str, index: int) -> PodLink:
        versions = 2 if self._ipv6 else 1
        return PodLink(
            host_name=self.host_name(sandbox_id),
            master=self._bridge,
            mtu=self._mtu,
            addresses=self._subnets.at(index)[:versions],
            gateways=tuple(a.ip for a in self._subnets.at(1)[:versions]),
            ipv6=self._ipv6,
        )

    def host_name(self, sandbox_id: str) -> str:
        """Return the name of the node's end of a sandbox's link."""
        return f"{self._instance.link_prefix}{sandbox_id[:8]}"

    def _cut(self, host_name: str) -> None:
        """Delete a link that is still there."""
        try:
            assert self._host is not None
            self._host.execute((delete_request(host_name),), host_name)
        except SetupFailed as e:
            if e.errno != errno.ENODEV:
                logger.warning("the link of a pod that is gone stays: %s", e)

    def _recover(self, live: Mapping[str, Ports]) -> None:
        assert self._leases is not None
        for sandbox_id in set(self._leases.by_sandbox) - live.keys():
            self._leases.free(sandbox_id)
        self._ports.recover(live)

    # -- without a running node

    def remove(self) -> None:
        """Remove bridge, links and table of the instance. Idempotent.

        A link goes with its pod's namespace, but that lives on without a process for as long as the kernel sends what a killed one
        had said (an orphaned socket). Forwarding stays on: someone else may count on it by now.
        """
        self._ports.destroy()
        masquerade.remove(self._instance.nft_table)
        for name in (self._instance.bridge, *self._links()):
            bridge.remove(name)

    def _links(self) -> list[str]:
        """Return the names of the host's ends of all pods' links."""
        prefix = self._instance.link_prefix
        return [name for _, name in socket.if_nameindex() if name.startswith(prefix)]

    def leaks(self, sandboxes: set[str]) -> list[str]:
        """Return links and leases that none of *sandboxes* owns."""
        names = {self.host_name(s) for s in sandboxes}
        found = [f"link {name}" for name in self._links() if name not in names]
        directory = f"{self._instance.run_dir}/leases"
        for name in os.listdir(directory) if os.path.isdir(directory) else ():
            owner = os.readlink(f"{directory}/{name}")
            if owner not in sandboxes:
                found.append(f"lease {name} of sandbox {owner}")
        return found
