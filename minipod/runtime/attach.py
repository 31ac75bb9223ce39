"""A live copy of a container's output, and its stdin: what `attach` gives.

The pump copies into a pipe of ours with a bounded buffer; a client too far behind is cut off, and the log never waits.
"""

from __future__ import annotations

import os
import uuid

from minipod.errors import FailedPrecondition
from minipod.runtime.service import ContainerState, ExecSession
from minipod.runtime.state import Container
from minipod.runtime.supervisor_client import SupervisorClient


class Attachments:
    """The attach verb."""

    def __init__(self, supervisor: SupervisorClient) -> None:
        self._supervisor = supervisor

    async def attach(self, container: Container, *, stdin: bool) -> ExecSession:
        """Raises FailedPrecondition when the container does not run."""
        if container.state is not ContainerState.RUNNING:
            raise FailedPrecondition(
                f"container {container.record.spec.name} is {container.state.value.lower()}, not running"
            )
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            await self._supervisor.request("attach", id=container.record.id, fds=(writer,))
            held: list[int] = []
            if stdin:
                _, held = await self._supervisor.request("console", id=container.record.id)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return ExecSession(
            id=uuid.uuid4().hex,
            pid=container.pid,
            stdin_fd=held[0] if held else -1,
            stdout_fd=reader,
            stderr_fd=-1,
        )
