"""The CRI's daemon: the runtime with a gRPC face instead of API and kubelet. The supervisor executes it for `minipod cri`.

It has an instance of its own, so that it and a node live side by side. On the API's socket it answers what `minipod status` and
`minipod down` ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal

from aiohttp import web

from minipod import log
from minipod.cri.image_service import ImageRpcs
from minipod.cri.messages import Messages
from minipod.cri.runtime_service import RuntimeRpcs
from minipod.cri.server import CriServer
from minipod.cri.stats import Stats
from minipod.cri.streaming import StreamingServer
from minipod.daemon.machine import Machine
from minipod.linux import prctl
from minipod.spec.instance import Instance

logger = logging.getLogger("minipod.cri")


class CriDaemon:
    """One CRI server."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._machine = Machine(instance)
        self._runtime = self._machine.runtime
        self._streams = StreamingServer(self._runtime)
        self._stats = Stats(self._machine.hierarchy, instance.state_dir)
        self._server = CriServer(instance.cri_socket, self._rpcs)
        app = web.Application()
        app.add_routes(
            [
                web.get("/version", self._status),
                web.get("/minipod/status", self._status),
                web.post("/minipod/stop-pods", self._stop_pods),
            ]
        )
        self._admin = web.AppRunner(app, access_log=None, handle_signals=False)

    def _rpcs(self, pb: Messages) -> tuple[object, object]:
        instance = self._instance
        return (
            RuntimeRpcs(pb, self._runtime, self._streams, self._stats, instance.log_dir),
            ImageRpcs(pb, self._runtime, instance.state_dir),
        )

    async def run(self, ready_fd: int) -> None:
        """Serve until SIGTERM; pods live on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._machine.stopping.set)
        await self._machine.start()
        await self._streams.start()
        await self._server.start()
        await self._start_admin()
        gc.freeze()
        self._machine.ready(ready_fd)
        logger.info("serving the CRI at %s", self._instance.cri_socket)
        await self._machine.stopping.wait()
        await self._server.stop()
        await self._streams.stop()
        await self._admin.cleanup()
        await self._machine.stop()

    async def _start_admin(self) -> None:
        path = self._instance.api_socket
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        await self._admin.setup()
        old = os.umask(0o177)
        await web.UnixSite(self._admin, path).start()
        os.umask(old)

    async def _status(self, _: web.Request) -> web.Response:
        status = await self._machine.status()
        return web.json_response({**status, "cri_socket": self._instance.cri_socket})

    async def _stop_pods(self, _: web.Request) -> web.Response:
        """Stop and remove every sandbox."""
        sandboxes = await self._runtime.list_pod_sandboxes()
        for sandbox in sandboxes:
            await self._runtime.stop_pod_sandbox(sandbox.id)
            await self._runtime.remove_pod_sandbox(sandbox.id)
        return web.json_response({"stopped": len(sandboxes)})


def main(instance: Instance, ready_fd: int) -> None:
    """Run it."""
    log.setup(process="cri")
    prctl.set_title("minipod:[cri]")

    async def run() -> None:
        await CriDaemon(instance).run(ready_fd)

    asyncio.run(run())
