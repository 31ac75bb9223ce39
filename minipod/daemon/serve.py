"""The daemon: wires every part together, serves, and stops in the reverse order.

Start: store, network, runtime (connects and recovers), kubelet, API server, then one line into the readiness pipe. Stop: API, kubelet,
runtime, store; pods live on (`minipod down` asks for their end first).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from minipod import log
from minipod.aio.tasks import guard
from minipod.apiserver import first_objects
from minipod.apiserver.auth import tokens as api_tokens
from minipod.apiserver.metrics import Metrics
from minipod.apiserver.server import ApiServer
from minipod.apiserver.store_sqlite import SqliteStore
from minipod.controllers import manager
from minipod.controllers.kinds import Kind, Kinds
from minipod.daemon.images import ImageRoutes
from minipod.daemon.kubelet_routes import KubeletRoutes
from minipod.daemon.machine import Machine
from minipod.daemon.node import store_path
from minipod.daemon.stopping import stop_pods
from minipod.daemon.streams import Streams
from minipod.daemon.usage import NodeUsage
from minipod.kubelet import node
from minipod.kubelet.kubelet import Kubelet
from minipod.late_methods import compile_constructors
from minipod.spec.instance import Instance

logger = logging.getLogger("minipod.daemon")

PAUSE = 0.005  # seconds between two things that are done in idle
SETTLED = 10.0  # seconds until kubelet and controllers hold what they keep: a full collection of 1,000 pods takes 25 ms


class Daemon:
    """One node's daemon."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._machine = Machine(instance)
        self.runtime = self._machine.runtime
        self.store = SqliteStore(store_path(instance))
        self.node_name = node.node_name(instance)
        self._tokens = tokens = api_tokens.of_node(instance, self.store)
        self.kubelet_ready = asyncio.Event()
        self.kubelet = Kubelet(
            instance,
            self.store,
            self.runtime,
            self.runtime,
            clock=time.time,
            tokens=tokens,
            ready=self.kubelet_ready.set,
            reclaim=self._machine.reclaim_images,
            limit_cgroup=self._machine.limit_cgroup,
        )
        self.runtime.also_prepare(self.kubelet.context.spares.more)
        self._kubelet_routes = KubeletRoutes(self.kubelet, self._machine.hierarchy, self.node_name)
        metrics = Metrics(
            self.store, NodeUsage(self.runtime, self._machine.hierarchy), self.node_name
        )
        self.api = ApiServer(
            instance,
            self.store,
            Streams(self.runtime),
            tokens,
            self.node_name,
            self._routes(),
            {**metrics.handlers(), ("nodes/proxy", "get"): self._kubelet_routes.proxy},
        )

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/minipod/status", self._status),
            web.get("/minipod/pods/{uid}", self._inspect),
            web.post("/minipod/stop-pods", self._stop_pods),
            *ImageRoutes(self.runtime).routes(),
            *self._kubelet_routes.routes(),
        ]

    async def run(self, ready_fd: int) -> None:
        """Serve until SIGTERM. A root task that fails ends the process: the supervisor starts it again, the pods run on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._machine.stopping.set)
        self.store.open()
        try:
            async with asyncio.TaskGroup() as roots:
                started = await self._start(roots)
                self._machine.ready(ready_fd)
                logger.info("node %s is ready", self.node_name)
                await self._machine.stopping.wait()
                await self.api.stop()
                for task in started:
                    task.cancel()
            await self._machine.stop()
        finally:
            self.store.close()

    async def _start(self, roots: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Start everything in order; return the root tasks."""
        started: list[asyncio.Task[None]] = []

        def root(name: str, coro: Coroutine[Any, Any, None]) -> None:
            started.append(roots.create_task(guard(name, coro), name=name))

        certificates = roots.create_task(self.api.prepare(), name="certificates")
        await first_objects.make(self.store)
        await self._machine.start()
        await certificates
        root("api", self.api.run())
        await self.api.listen()
        root("kubelet", self.kubelet.run())
        await self.kubelet_ready.wait()
        # The loop is not left any more: what the kubelet does next, with each pod, keeps it busy.
        claims = f"{self.instance.state_dir}/claims"
        means = manager.Means(
            tokens=self._tokens, signer=self.api.certificates, ca=self.api.ca, claims=claims
        )
        root("controllers", manager.run(self.store, self._kinds(), means))
        self.api.open()
        gc.freeze()
        asyncio.get_running_loop().call_later(SETTLED, gc.freeze)
        self._machine.tasks.spawn(warm_up(), name="warm-up")
        return started

    def _kinds(self) -> Kinds:
        """Return the stored kinds as the controllers see them."""
        return Kinds(
            Kind(resource=r.stored_as, group=r.group, kind=r.kind, namespaced=r.namespaced)
            for r in self.store.registry
            if r.stored
        )

    # -- our own routes

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(await self.status())

    async def status(self) -> dict[str, Any]:
        """Return what `minipod status` shows."""
        pods, _version = await self.store.list("pods", None)
        return {
            **await self._machine.status(),
            "node": self.node_name,
            "api_socket": self.instance.api_socket,
            "pods": len(pods),
        }

    async def _inspect(self, request: web.Request) -> web.Response:
        """Return what the runtime knows of a pod: namespaces, pids, cgroups of its containers."""
        uid = request.match_info["uid"]
        sandboxes = await self.runtime.list_pod_sandboxes(uid)
        containers = await self.runtime.list_containers(uid)
        return web.json_response(
            {
                "sandboxes": [
                    {"id": s.id, "state": s.state.value, "ips": s.ips, "namespaces": s.namespaces}
                    for s in sandboxes
                ],
                "containers": [
                    {
                        "id": c.id,
                        "name": c.spec.name,
                        "state": c.state.value,
                        "pid": c.pid,
                        "cgroup": c.cgroup,
                        "log": c.log_path,
                    }
                    for c in containers
                ],
            }
        )

    async def _stop_pods(self, _: web.Request) -> web.Response:
        """Answer when all pods are gone, or with those that stay."""
        left = await stop_pods(self.store, self.kubelet.static.stop)
        return web.json_response({"left": left})


async def warm_up() -> None:
    """Compile in idle what would cost the first pod 13 ms (`late_methods`)."""
    for _ in compile_constructors("minipod"):
        await asyncio.sleep(PAUSE)


def main(instance: Instance, ready_fd: int) -> None:
    """Run the daemon."""
    log.setup(process="daemon")

    async def run() -> None:
        await Daemon(instance).run(ready_fd)

    asyncio.run(run())
