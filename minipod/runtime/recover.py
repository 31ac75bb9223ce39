"""Finding everything again: after a start of the daemon, and after the loss of its supervisor.

    load the records -> ask the supervisor -> re-attach -> only then remove what no record owns

Each item on its own: one that cannot be read or removed is logged and stops no other. Requests of others may go on meanwhile: what
they are making (`State.building`) is theirs. What a lost supervisor was making is undone here: its set-ups died with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from minipod.errors import MinipodError
from minipod.linux import fds as linux_fds
from minipod.network.network import Network
from minipod.runtime import pod_init
from minipod.runtime.container import Containers
from minipod.runtime.sandbox import Sandboxes
from minipod.runtime.state import Container, State
from minipod.runtime.supervisor_client import SupervisorClient
from minipod.spec.codec import loads
from minipod.spec.ids import ContainerId
from minipod.spec.instance import Instance
from minipod.spec.sandbox import NamespaceMode
from minipod.supervisor import records

logger = logging.getLogger(__name__)


class Recovery:
    """Runs once for each connection to a supervisor."""

    def __init__(
        self,
        instance: Instance,
        state: State,
        supervisor: SupervisorClient,
        sandboxes: Sandboxes,
        containers: Containers,
        network: Network,
    ) -> None:
        self._storage = f"{instance.state_dir}/containers"
        self._state = state
        self._supervisor = supervisor
        self._sandboxes = sandboxes
        self._containers = containers
        self._network = network
        self._building = state.building
        self._ran = False

    async def run(self) -> None:
        first = not self._ran
        self._ran = True
        self._load()
        listed = await self._ask()
        ours = [c for c in self._state.containers.values() if c.record.id not in self._building]
        unfinished = [c for c in ours if not self._reattach(c, listed.get(c.record.id))]
        for sandbox in list(self._state.sandboxes.values()):
            if sandbox.id in self._building or sandbox.spec.pid is not NamespaceMode.POD:
                continue
            if not pod_init.of(self._state, sandbox.id):
                self._sandboxes.lost(sandbox.id)
        await self._remove_unfinished(unfinished)
        await self._remove_unowned()
        if first:  # a supervisor takes nothing of the network with it
            ready = [s for s in self._state.sandboxes.values() if s.ready]
            await self._network.recover({s.id: (s.ips, s.spec.port_mappings) for s in ready})

    def _load(self) -> None:
        """Read every record that is not in memory yet."""
        run_dir = self._state.run_dir
        for name in sorted(os.listdir(f"{run_dir}/sandboxes")):
            if name.endswith(".json") and name.removesuffix(".json") not in self._state.sandboxes:
                self._attempt(self._state.load_sandbox, name)
        for name in sorted(os.listdir(f"{run_dir}/containers")):
            if name not in self._state.containers and os.path.exists(
                f"{run_dir}/containers/{name}/container.json"
            ):
                self._attempt(self._state.load_container, name)

    def _attempt(self, load: Any, name: str) -> None:
        try:
            load(name)
        except (OSError, ValueError, MinipodError):
            logger.exception("record %s can't be read", name)

    async def _ask(self) -> dict[str, dict[str, Any]]:
        """Return what the supervisor knows, by container id."""
        _, received = await self._supervisor.request("list")
        try:
            listed = loads(tuple[dict[str, Any], ...], linux_fds.read_sealed(received[0]))
        finally:
            os.close(received[0])
        return {entry["id"]: entry for entry in listed}

    def _reattach(self, container: Container, known: dict[str, Any] | None) -> bool:
        """Bring it up to date; False for one that was never started, and never will be: whoever parked it is gone."""
        end = records.read_exit(self._state.container_directory(container.record.id))
        if end is not None:
            container.finish(end)
        if known is not None:
            container.started_at = known["started_at"] or container.started_at
        finished = container.started_at or container.exit is not None
        if known is None and container.pid:
            container.finish(records.unknown())
        if container.exit is not None:
            self._containers.mounts.release(container.record.id)
        if known is None or known["drained"]:
            container.drained.set()
        return bool(container.pid and (known is not None or finished))

    async def _remove_unfinished(self, containers: list[Container]) -> None:
        """A create or a sandbox that was cut off half-way: undo it, with what is parked in it; the kubelet makes another."""
        for container in containers:
            await self._undo(self._containers.remove(container.record.id), container.record.id)
        for sandbox in list(self._state.sandboxes.values()):
            if sandbox.id in self._building or sandbox.ready or sandbox.stopped:
                continue
            for container in self._state.containers_of(sandbox.id):
                await self._undo(self._containers.remove(container.record.id), container.record.id)
            await self._undo(self._sandboxes.remove(sandbox.id), sandbox.id)

    async def _undo(self, removal: Any, what: str) -> None:
        try:
            async with asyncio.timeout(10):
                await removal
        except (OSError, MinipodError, TimeoutError):
            logger.exception("%s can't be removed", what)

    async def _remove_unowned(self) -> None:
        """Directories that no record owns (a crash between two steps, or a reboot)."""
        for base in (f"{self._state.run_dir}/containers", self._storage):
            for name in os.listdir(base) if os.path.isdir(base) else ():
                if ContainerId(name) not in self._state.containers:
                    gone = [ContainerId(name)]
                    await asyncio.to_thread(self._containers.remove_traces, gone, ())
        self._containers.trash.sweep()
