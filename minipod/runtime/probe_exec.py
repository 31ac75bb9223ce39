"""Exec for the prober: a connection of its own to the supervisor, and the containers' records read from disk."""

from __future__ import annotations

from collections import OrderedDict

from minipod.errors import NotFound
from minipod.runtime.exec import Execs
from minipod.runtime.service import ContainerState
from minipod.runtime.state import Container, State
from minipod.runtime.supervisor_client import SupervisorClient
from minipod.spec.ids import ContainerId
from minipod.spec.instance import Instance

KNOWN_MAX = 1000  # containers
OUTPUT_MAX = 10 << 10  # bytes; a kubelet keeps as much of a probe's output


class ProbeExec:
    """Runs one command to its end; connects when needed, again after the supervisor was replaced."""

    def __init__(self, instance: Instance) -> None:
        self._state = State(instance.run_dir)
        self._supervisor = SupervisorClient(instance.supervisor_socket)
        self._execs = Execs(self._supervisor, instance.run_dir)
        # Running containers by id, the newest last. One that has ended is refused by the supervisor.
        self._known: OrderedDict[str, Container] = OrderedDict()

    async def exec_sync(
        self, container_id: str, command: tuple[str, ...], timeout: float
    ) -> tuple[int, bytes]:
        """Return exit code and output. Raises Unavailable, NotFound, FailedPrecondition, DeadlineExceeded."""
        if not self._supervisor.connected:
            self._supervisor.connect()
        container = self._known.get(container_id) or self._load(container_id)
        result = await self._execs.sync(container, command, timeout, OUTPUT_MAX)
        return result.exit_code, (result.stdout + result.stderr)[:OUTPUT_MAX]

    def _load(self, container_id: str) -> Container:
        try:
            container = self._state.load_container(container_id)
        except FileNotFoundError:
            raise NotFound(f"no container {container_id}") from None
        finally:
            self._state.drop_container(ContainerId(container_id))
        if container.state is ContainerState.RUNNING:
            self._known[container_id] = container
            if len(self._known) > KNOWN_MAX:
                self._known.popitem(last=False)
        return container
