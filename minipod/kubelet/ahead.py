"""The first container of a new sandbox: it is set up while the sandbox is being made, and started in its turn.

Which one it is, is decided as if the sandbox was there; whether it starts, and all that is told of it, when it is. What can't be done
ahead is done in its turn, and fails there.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from minipod.kubelet.translate import observed_sandbox
from minipod.spec.ids import ContainerId

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from minipod.kubelet.rules.actions import PodActions
    from minipod.kubelet.rules.observed import Observed
    from minipod.kubelet.rules.pods import Container
    from minipod.runtime.service import RuntimeService, SandboxStatus

Made = tuple[str, ContainerId]  # whose instance: the container's name; and its id


class Ahead:
    """At most one container instance, of one pod, on its way."""

    def __init__(self, runtime: RuntimeService) -> None:
        self._runtime = runtime
        self._task: asyncio.Task[Made | None] | None = None
        self._begun: Made | None = None

    def begin(self, making: Coroutine[Any, Any, Made | None]) -> None:
        """Have it made from the next turn of the loop on."""
        self._begun = None
        self._task = asyncio.ensure_future(making)

    def note(self, name: str, container: ContainerId) -> None:
        """The process of the instance is being made."""
        self._begun = (name, container)

    def begun(self, container: Container) -> ContainerId | None:
        """Return the instance of *container* where its process is being made, or made: it may be started before `take` returns it."""
        made = self._begun
        return made[1] if self._task is not None and made and made[0] == container.name else None

    async def take(self, container: Container) -> ContainerId | None:
        """Return the parked instance of *container*, None where another or none was made. Raises what its creation raised."""
        task, self._task = self._task, None
        made = None if task is None else await task
        if made is None or made[0] == container.name:
            return made and made[1]
        await self._runtime.remove_container(made[1])
        return None

    async def give_up(self) -> None:
        """Nobody starts it: undo it."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled() and task.exception() is None and (made := task.result()):
            await self._runtime.remove_container(made[1])

    def unseen(self, observed: Observed) -> Observed:
        """*observed* without it: for the rules it is not there before its turn."""
        task = self._task
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return observed
        made = task.result()
        kept = tuple(c for c in observed.containers if made is None or c.id != made[1])
        return replace(observed, containers=kept)


def first(actions: PodActions) -> Container | None:
    """What starts first in the sandbox, when nothing comes before."""
    if actions.kill_pod or actions.create_sandbox or actions.kill:
        return None
    starts = (*actions.start_ephemeral, *actions.start_init, *actions.start)
    return next(iter(starts), None)


def as_if_ready(observed: Observed, begun: SandboxStatus) -> Observed:
    """What would be observed if the sandbox that was begun was there."""
    sandbox = replace(observed_sandbox(begun), ready=True)
    return replace(observed, sandboxes=(sandbox, *observed.sandboxes))
