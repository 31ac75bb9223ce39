"""What the kubelet tells besides the objects: the probes' metrics, and why a pod is as it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from aiohttp import web

from minipod.daemon.usage import node_cpu, node_memory
from minipod.errors import Unavailable
from minipod.kubelet import metrics
from minipod.spec.codec import to_plain

if TYPE_CHECKING:
    from minipod.kubelet.kubelet import Kubelet


EXPOSITION = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


def node_usage() -> metrics.Node:
    """What the machine uses now."""
    return metrics.Node(cpu_ns=node_cpu(), working_set=node_memory())


class KubeletRoutes:
    """Routes over one kubelet."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._context = kubelet.context

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/metrics/probes", self._metrics),  # the kubelet's path
            web.get("/metrics/cadvisor", self._cadvisor),
            web.get("/metrics/resource", self._resource),
            web.get("/stats/summary", self._summary),
            web.get("/minipod/pods/{uid}/why", self._why),
        ]

    async def _metrics(self, _: web.Request) -> web.Response:
        text = await self._context.probes.metrics()
        return web.Response(text=text, headers=EXPOSITION)

    async def _measured(self) -> list[metrics.Measured]:
        return await metrics.measure(self._context, self._kubelet.pods())

    async def _cadvisor(self, _: web.Request) -> web.Response:
        return web.Response(text=metrics.cadvisor(await self._measured()), headers=EXPOSITION)

    async def _resource(self, _: web.Request) -> web.Response:
        text = metrics.resource(await self._measured(), node_usage())
        return web.Response(text=text, headers=EXPOSITION)

    async def _summary(self, _: web.Request) -> web.Response:
        name = self._context.machine.node_name
        return web.json_response(metrics.summary(name, await self._measured(), node_usage()))

    async def _why(self, request: web.Request) -> web.Response:
        """The pod's journal, and its probes now (none while the prober is being started again)."""
        uid = request.match_info["uid"]
        try:
            probes = await self._context.probes.look(uid)
        except Unavailable:
            probes = ()
        records = [asdict(record) for record in self._context.journal.read(uid)]
        return web.json_response({"records": records, "probes": to_plain(probes)})
