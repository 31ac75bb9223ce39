"""What every daemon has below its face: images, network, cgroups, the runtime over them, and a supervisor that it replaces when lost.

The supervisor's successor is started with posix_spawn, and the runtime recovers through it: this process has threads and never forks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from typing import Any

from minipod.aio.tasks import Background
from minipod.cgroups.hierarchy import of_node
from minipod.daemon.node import start_supervisor
from minipod.errors import Unavailable
from minipod.image import gc as image_gc
from minipod.image import store as image_store
from minipod.network.network import Network
from minipod.runtime.runtime import Runtime
from minipod.spec.instance import Instance

logger = logging.getLogger("minipod.daemon")

RECONNECT = 30.0  # seconds for a new supervisor to listen


class Machine:
    """`start` connects and recovers, `stop` lets go; containers live on."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.started_at = time.time()
        self.tasks = Background()
        self.stopping = asyncio.Event()
        self.images = image_store.of_node(instance)
        self.network = Network(instance)
        self.hierarchy = of_node(instance.run_dir)
        self.runtime = Runtime(
            instance, self.hierarchy, self.network, self.images, self._supervisor_lost
        )
        policy = image_gc.Policy(
            high=instance.image_gc_high,
            low=instance.image_gc_low,
            min_age=instance.image_gc_min_age,
            max_age=instance.image_gc_max_age,
        )
        self._collector = image_gc.Collector(self.images, policy, self.runtime.images_in_use)

    async def start(self) -> None:
        """Bring the network up, connect to the supervisor, find everything again."""
        await self.network.start()
        await self.runtime.connect()
        self.tasks.spawn(self._collect_images(), name="image-gc")

    async def stop(self) -> None:
        """End what runs in the background, and close the connections."""
        await self.tasks.close()
        self.runtime.close()
        await self.network.stop()

    async def status(self) -> dict[str, Any]:
        """Return what `minipod status` shows of every daemon."""
        answer, _ = await self.runtime.supervisor.request("hello")
        return {
            "instance": self.instance.name,
            "pid": os.getpid(),
            "supervisor_pid": answer["pid"],
            "pump_pid": answer["services"].get("pump", 0),
            "prober_pid": answer["services"].get("prober", 0),
            "started_at": self.started_at,
            "cgroups": self.hierarchy.mode.value,
            "subnets": [self.instance.subnet4, self.instance.subnet6],
            "containers_running": sum(
                c.state.value == "RUNNING" for c in self.runtime.state.containers.values()
            ),
        }

    async def reclaim_images(self) -> None:
        """Remove the images that nothing uses: the disk is short."""
        await asyncio.to_thread(self._collector.reclaim, time.time())

    async def _collect_images(self) -> None:
        """Remove unused images when the disk fills, every five minutes."""
        while True:
            await asyncio.sleep(image_gc.PERIOD)
            await asyncio.to_thread(self._collector.collect, time.time())

    def _supervisor_lost(self) -> None:
        if not self.stopping.is_set():
            logger.error("the supervisor is gone: starting another")
            self.tasks.spawn(self._replace_supervisor(), name="replace-supervisor")

    async def _replace_supervisor(self) -> None:
        """Start supervisors until one answers. The lock lets one of them in, so a slow one is not harmed by the next."""
        while not self.stopping.is_set():
            start_supervisor(self.instance, -1)
            if await self._reconnected():
                logger.info("connected to the new supervisor")
                return
            logger.error("no supervisor answers after %g s: starting another", RECONNECT)

    async def _reconnected(self) -> bool:
        """Whether a supervisor listens within RECONNECT seconds; the runtime has recovered through it then."""
        deadline = time.monotonic() + RECONNECT
        while time.monotonic() < deadline:
            try:
                await self.runtime.connect()
            except Unavailable:
                await asyncio.sleep(0.02)  # its socket appears when it has adopted everything
            else:
                return True
        return False


def tell_ready(ready_fd: int) -> None:
    """Wake whoever started the node; a daemon that was started again has nobody to tell."""
    if ready_fd >= 0:
        with contextlib.suppress(OSError):
            os.write(ready_fd, b"ready\n")
            os.close(ready_fd)
