"""What the kubelet tells besides the objects: the probes' metrics, and why a pod is as it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from aiohttp import web

from minipod.errors import Unavailable
from minipod.spec.codec import to_plain

if TYPE_CHECKING:
    from minipod.kubelet.kubelet import Kubelet


class KubeletRoutes:
    """Routes over one kubelet."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._context = kubelet.context

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/metrics/probes", self._metrics),  # the kubelet's path
            web.get("/minipod/pods/{uid}/why", self._why),
        ]

    async def _metrics(self, _: web.Request) -> web.Response:
        text = await self._context.probes.metrics()
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(text=text, headers=headers)

    async def _why(self, request: web.Request) -> web.Response:
        """The pod's journal, and its probes now (none while the prober is being started again)."""
        uid = request.match_info["uid"]
        try:
            probes = await self._context.probes.look(uid)
        except Unavailable:
            probes = ()
        records = [asdict(record) for record in self._context.journal.read(uid)]
        return web.json_response({"records": records, "probes": to_plain(probes)})
