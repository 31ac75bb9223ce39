"""A sandbox that is being made, and the containers that are created in it meanwhile.

    record, address -> `begun` -> cgroup, namespaces -> `pinned` -> network -> `made`
                          |            (a container's record and directories)    |
                          `-> create ----------------> its set-up ---------------`--> created; may be started

A container's set-up needs the namespaces, not the network: half of it passes while that is made. Nothing is started, and no create is over,
before the sandbox is ready. One that fails is over when the creates in it have undone themselves.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from minipod.errors import FailedPrecondition
from minipod.spec.ids import ContainerId, SandboxId


class Making:
    """What the verbs that work on one sandbox tell each other. Whoever makes it calls `pin` and `end`, a create the others.

    *is_pinned* says whether `pin` comes next: the news of a thread's end is some turns of the loop old when it does.
    """

    def __init__(
        self, sandbox: SandboxId, is_pinned: Callable[[SandboxId], bool] = lambda _: False
    ) -> None:
        self._sandbox = sandbox
        self._is_pinned = is_pinned
        # Of its first container, whose cgroup is made with its own.
        self.first = ContainerId(uuid.uuid4().hex)
        self.begun = False  # there is that one
        self._failed = False
        self._pinned = asyncio.Event()
        self._ended = asyncio.Event()
        self._creates = 0
        self._alone = asyncio.Event()
        self._alone.set()

    # -- who makes it

    def pin(self) -> None:
        """Its namespaces are there."""
        self._pinned.set()

    async def end(self, *, failed: bool) -> None:
        """It is ready, or will not be: then return when nothing is created in it any more."""
        self._failed = failed
        self._pinned.set()
        self._ended.set()
        if failed:
            await self._alone.wait()

    # -- who creates a container in it

    @contextmanager
    def creating(self) -> Iterator[None]:
        """Hold the removal of a sandbox that fails up until the container in it is gone."""
        self._creates += 1
        self._alone.clear()
        try:
            yield
        finally:
            self._creates -= 1
            if not self._creates:
                self._alone.set()

    def next_id(self) -> ContainerId:
        """Return the id of a new container."""
        if self.begun:
            return ContainerId(uuid.uuid4().hex)
        self.begun = True
        return self.first

    async def pinned(self) -> None:
        """Wait for the namespaces. Raises FailedPrecondition: there will be none."""
        if not self._is_pinned(self._sandbox):
            await self._pinned.wait()
        self._check()

    async def made(self) -> None:
        """Wait for the rest. Raises FailedPrecondition: it failed."""
        await self._ended.wait()
        self._check()

    def _check(self) -> None:
        if self._failed:
            raise FailedPrecondition(f"sandbox {self._sandbox} could not be made")
