"""exec: run a command in the container; exit code 0 is success (K8S pkg/probe/exec/exec.go).

The command runs through the supervisor, never here: `ExecRunner` is the seam. At the time limit its whole session is killed.
"""

from __future__ import annotations

import json
from typing import Protocol

from minipod.errors import DeadlineExceeded, MinipodError
from minipod.kubelet.probe.targets import Attempt, Exec
from minipod.kubelet.rules.probe import Outcome

MAX_OUTPUT = 10 * 1024  # bytes of stdout and stderr together


class ExecRunner(Protocol):
    """Runs a command in a running container."""

    async def exec_sync(
        self,
        container_id: str,
        command: tuple[str, ...],
        timeout: float,
    ) -> tuple[int, bytes]:
        """Return exit code and combined output; DeadlineExceeded after killing the whole
        session."""


async def probe(handler: Exec, container_id: str, runner: ExecRunner, time_limit: float) -> Attempt:
    """A timeout is a failure; a command that could not be started is the prober's error."""
    try:
        code, output = await runner.exec_sync(container_id, handler.command, time_limit)
    except DeadlineExceeded:
        shown = json.dumps(" ".join(handler.command), ensure_ascii=False)  # Go's %q
        return Attempt(outcome=Outcome.FAILURE, output=f"command {shown} timed out")
    except MinipodError as error:
        return Attempt(outcome=Outcome.ERROR, output=error.message)
    text = output[:MAX_OUTPUT].decode("utf-8", "replace")
    return Attempt(outcome=Outcome.FAILURE if code else Outcome.SUCCESS, output=text)
