"""What the kubelet tells besides the objects: the probes' metrics, and why a pod is as it is."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from aiohttp import web

from minipod.apiserver.status import not_found
from minipod.cgroups.details import details
from minipod.daemon.own_metrics import own_metrics
from minipod.daemon.usage import interfaces, node_cpu, node_memory
from minipod.errors import NotFound, Unavailable
from minipod.kubelet import metrics
from minipod.kubelet.cadvisor import cadvisor
from minipod.spec.codec import to_plain

if TYPE_CHECKING:
    from minipod.apiserver.call import Call
    from minipod.cgroups.hierarchy import Hierarchy
    from minipod.kubelet.kubelet import Kubelet


EXPOSITION = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class KubeletRoutes:
    """Routes over one kubelet."""

    def __init__(self, kubelet: Kubelet, hierarchy: Hierarchy, node_name: str) -> None:
        self._node_name = node_name
        self._kubelet = kubelet
        self._hierarchy = hierarchy
        self._context = kubelet.context

        self._paths = {  # the kubelet's
            "/metrics": self._own,
            "/metrics/probes": self._metrics,
            "/metrics/cadvisor": self._cadvisor,
            "/metrics/resource": self._resource,
            "/stats/summary": self._summary,
        }

    def routes(self) -> list[web.RouteDef]:
        own = web.get("/minipod/pods/{uid}/why", self._why)
        return [own, *(web.get(path, handler) for path, handler in self._paths.items())]

    async def proxy(self, call: Call) -> web.StreamResponse:
        """GET /api/v1/nodes/NAME/proxy/PATH: what a kubelet serves, as clients of a cluster ask for it. Raises NotFound, ApiError 404."""
        if call.info.name != self._node_name:
            raise NotFound(f'nodes "{call.info.name}" not found')
        handler = self._paths.get("/" + "/".join(call.info.rest))
        if handler is None:
            raise not_found()
        return await handler(call.request)

    async def _metrics(self, _: web.Request) -> web.Response:
        text = await self._context.probes.metrics()
        return web.Response(text=text, headers=EXPOSITION)

    async def _own(self, _: web.Request) -> web.Response:
        """Of the kubelet itself, and of its process."""
        containers = await self._context.runtime.list_containers()
        states = Counter(c.state.value.lower() for c in containers)
        text = own_metrics(self._kubelet, states)
        return web.Response(text=text, headers=EXPOSITION)

    async def _measured(self) -> list[metrics.Measured]:
        return await metrics.measure(self._context, self._kubelet.pods())

    async def _detailed(self) -> list[metrics.Measured]:
        return await asyncio.to_thread(self._look, await self._measured())

    def _look(self, measured: list[metrics.Measured]) -> list[metrics.Measured]:
        """Read what the runtime does not tell: of each cgroup, and of each pod's network once."""
        networks: dict[str, dict[str, tuple[int, ...]]] = {}
        found = []
        for one in measured:
            uid = one.pod.uid
            try:
                if not one.pod.host_network and uid not in networks:
                    networks[uid] = interfaces(one.status.pid)
                more = details(self._hierarchy, one.status.cgroup)
            except OSError:
                continue  # it has ended meanwhile
            found.append(replace(one, details=more, network=networks.get(uid, {})))
        return found

    async def _cadvisor(self, _: web.Request) -> web.Response:
        machine = self._context.machine
        text = cadvisor(await self._detailed(), cpus=machine.cpus, memory=machine.memory)
        return web.Response(text=text, headers=EXPOSITION)

    async def _resource(self, _: web.Request) -> web.Response:
        text = metrics.resource(await self._measured(), self._node_usage())
        return web.Response(text=text, headers=EXPOSITION)

    async def _summary(self, _: web.Request) -> web.Response:
        name = self._context.machine.node_name
        found = metrics.summary(name, await self._detailed(), self._node_usage())
        return web.json_response(found)

    def _node_usage(self) -> metrics.Node:
        """What the machine uses now."""
        disk = os.statvfs(self._context.instance.state_dir)
        size = disk.f_frsize
        return metrics.Node(
            cpu_ns=node_cpu(), working_set=node_memory(), memory=self._context.machine.memory,
            disk=(disk.f_blocks * size, disk.f_bavail * size, disk.f_files), inodes_free=disk.f_ffree,
        )  # fmt: skip

    async def _why(self, request: web.Request) -> web.Response:
        """The pod's journal, and its probes now (none while the prober is being started again)."""
        uid = request.match_info["uid"]
        try:
            probes = await self._context.probes.look(uid)
        except Unavailable:
            probes = ()
        records = [asdict(record) for record in self._context.journal.read(uid)]
        return web.json_response({"records": records, "probes": to_plain(probes)})
