"""Exec for the prober: a connection of its own to the supervisor, and the containers' records read from disk."""

from __future__ import annotations

from minipod.errors import NotFound
from minipod.runtime.exec import Execs
from minipod.runtime.state import State
from minipod.runtime.supervisor_client import SupervisorClient
from minipod.spec.ids import ContainerId
from minipod.spec.instance import Instance

OUTPUT_MAX = 10 << 10  # bytes; a kubelet keeps as much of a probe's output


class ProbeExec:
    """Runs one command to its end; connects when needed, again after the supervisor was replaced."""

    def __init__(self, instance: Instance) -> None:
        self._state = State(instance.run_dir)
        self._supervisor = SupervisorClient(
            instance.supervisor_socket, on_event=self._event, on_lost=self._lost
        )
        self._execs = Execs(self._supervisor, instance.run_dir)

    async def exec_sync(
        self, container_id: str, command: tuple[str, ...], timeout: float
    ) -> tuple[int, bytes]:
        """Return exit code and output. Raises Unavailable, NotFound, FailedPrecondition, DeadlineExceeded."""
        if not self._supervisor.connected:
            self._supervisor.connect()
            await self._supervisor.request("subscribe")
        try:
            container = self._state.load_container(container_id)
        except FileNotFoundError:
            raise NotFound(f"no container {container_id}") from None
        finally:
            self._state.containers.pop(ContainerId(container_id), None)
        result = await self._execs.sync(container, command, timeout, OUTPUT_MAX)
        return result.exit_code, (result.stdout + result.stderr)[:OUTPUT_MAX]

    def _event(self, event: dict[str, object]) -> None:
        if event["event"] == "exec_exited":
            self._execs.ended(str(event["id"]), int(str(event["code"])))

    def _lost(self) -> None:
        self._execs.lost()
