"""Exec probes through the supervisor: a connection of the prober's own, made when first needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.errors import Unavailable

if TYPE_CHECKING:
    from minipod.kubelet.probe.exec import ExecRunner
    from minipod.spec.instance import Instance


class SupervisorExecRunner:
    """An `ExecRunner` over `minipod.runtime.supervisor_client`."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._runner: ExecRunner | None = None

    async def exec_sync(
        self,
        container_id: str,
        command: tuple[str, ...],
        timeout: float,  # noqa: ASYNC109
    ) -> tuple[int, bytes]:
        """Return exit code and combined output. Raises Unavailable without a supervisor."""
        if self._runner is None:
            from minipod.runtime import supervisor_client

            connect = getattr(supervisor_client, "connect_exec", None)
            if connect is None:
                raise Unavailable("no way to run an exec probe")
            self._runner = connect(self._instance)
        return await self._runner.exec_sync(container_id, command, timeout)
