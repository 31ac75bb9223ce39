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
from minipod.daemon.successor import Successor
from minipod.errors import Unavailable
from minipod.image import gc as image_gc
from minipod.image import store as image_store
from minipod.linux import apparmor
from minipod.network.network import Network
from minipod.runtime.runtime import Runtime
from minipod.spec.container import Resources
from minipod.spec.instance import Instance
from minipod.supervisor import records

logger = logging.getLogger("minipod.daemon")

RECONNECT = 30.0  # seconds for a new supervisor to listen
AGAIN = 1.0  # seconds from a supervisor that failed to the next


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
        self._replacing = False
        self._successor = Successor(instance)

    async def start(self) -> None:
        """Bring the network up, connect to the supervisor, find everything again."""
        await self.network.start()
        await self.runtime.connect()
        await load_default_profile()
        self.tasks.spawn(self._collect_images(), name="image-gc")

    def ready(self, ready_fd: int) -> None:
        """Tell whoever started the node; from now on, what it does while it is idle is in nobody's way."""
        tell_ready(ready_fd)
        self.runtime.prepare(self.instance.prepared_sandboxes)

    async def stop(self) -> None:
        """End what runs in the background, and close the connections."""
        await self.tasks.close()
        self._successor.close()
        await self.runtime.give_back()
        self.runtime.close()
        await self.network.stop()

    async def status(self) -> dict[str, Any]:
        """Return what `minipod status` shows of every daemon. Pids are 0 while there is no supervisor."""
        answer: dict[str, Any] = {}
        with contextlib.suppress(Unavailable):
            answer, _ = await self.runtime.supervisor.request("hello")
        services = answer.get("services", {})
        return {
            "instance": self.instance.name,
            "pid": os.getpid(),
            "supervisor_pid": answer.get("pid", 0),
            "pump_pid": services.get("pump", 0),
            "prober_pid": services.get("prober", 0),
            "started_at": self.started_at,
            "cgroups": self.hierarchy.mode.value,
            "subnets": [self.instance.subnet4, self.instance.subnet6],
            "containers_running": sum(
                c.state.value == "RUNNING" for c in self.runtime.state.containers.values()
            ),
        }

    def limit_cgroup(self, path: str, resources: Resources) -> None:
        """Make a cgroup above the pods', and write its limits. Raises OSError."""
        self.hierarchy.create(f"{self.instance.cgroup_root}/{path}", resources)

    async def reclaim_images(self) -> None:
        """Remove the images that nothing uses: the disk is short."""
        await asyncio.to_thread(self._collector.reclaim, time.time())

    async def _collect_images(self) -> None:
        """Remove unused images when the disk fills, every five minutes."""
        while True:
            await asyncio.sleep(image_gc.PERIOD)
            await asyncio.to_thread(self._collector.collect, time.time())

    def _supervisor_lost(self) -> None:
        # One that ended on purpose has taken its record away before; the signal that it sent us may come later.
        ended = records.read_service(self.instance.run_dir, "supervisor") is None
        if not ended and not self.stopping.is_set() and not self._replacing:
            logger.error("the supervisor is gone: starting another")
            self._replacing = True
            self.tasks.spawn(self._replace_supervisor(), name="replace-supervisor")

    async def _replace_supervisor(self) -> None:
        """Start supervisors until the runtime has recovered through one. The lock lets one of them in."""
        while not self.stopping.is_set() and not await self._succeeded():
            logger.error("no supervisor answers: starting another")
            await asyncio.sleep(AGAIN)
        self._replacing = False
        logger.info("connected to the new supervisor")

    async def _succeeded(self) -> bool:
        """Start a supervisor; whether everything was found again through it, or through another that is there."""
        self._successor.start()
        while True:
            try:
                await self.runtime.connect()
            except Unavailable:
                if not await self._successor.news(RECONNECT):
                    return False
            except Exception:
                # A task boundary: a node without a supervisor is dead, so this is tried again, whatever it was.
                logger.exception("the recovery failed")
                self.runtime.supervisor.close()
                return False
            else:
                return True


async def load_default_profile() -> None:
    """Give the kernel the AppArmor profile of RuntimeDefault, where it has AppArmor and the parser is installed."""
    if not apparmor.has_default():
        return
    parser = await asyncio.create_subprocess_exec(
        apparmor.PARSER, "--replace", "--skip-cache", "--quiet",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await parser.communicate(apparmor.PROFILE.encode())
    if parser.returncode:
        words = said.decode(errors="replace").strip()
        logger.error("the default AppArmor profile was not loaded: %s", words)


def tell_ready(ready_fd: int) -> None:
    """Wake whoever started the node; a daemon that was started again has nobody to tell."""
    if ready_fd >= 0:
        with contextlib.suppress(OSError):
            os.write(ready_fd, b"ready\n")
            os.close(ready_fd)
