"""Makes a prepared sandbox the pod's: its cgroup and its host name, as a program of system calls in a thread without an interpreter.

The loop prepares the pod's first container meanwhile (`runtime.container`), and neither waits for the other (`linux.machine_thread`).

    thread   setns of the sandbox's uts, sethostname; then by itself: cgroup in each tree, limits, its first container's cgroup

What all pods of the same limits have alike is written down once. Where a call fails, or there is no such thread, the long way is taken
(`sandbox_setup.furnish`), which finds what was made, and says what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

from minipod.cgroups import calls
from minipod.cgroups.hierarchy import Hierarchy
from minipod.cgroups.resources import v1_settings, v2_settings
from minipod.linux.flags import CloneFlag
from minipod.linux.machine import Piece
from minipod.linux.machine_thread import ThreadMachine
from minipod.linux.program import Call, Text
from minipod.runtime import sandbox_setup
from minipod.runtime.threads import alone
from minipod.spec.bundle import SandboxBundle

logger = logging.getLogger(__name__)


class Furnishing:
    """One node's prepared sandboxes become pods' here, one at a time. No call may be under way at `close`."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        self._hierarchy = hierarchy
        self._turn = asyncio.Lock()
        self._now: tuple[str, asyncio.Future[bool]] | None = None  # the sandbox whose turn it is
        self._machine: ThreadMachine | None = None
        try:
            self._machine = ThreadMachine()
        except OSError as error:
            logger.info("each sandbox's cgroup is made by the interpreter: %s", error)

    def close(self) -> None:
        if self._machine is not None:
            self._machine.close()

    async def furnish(self, bundle: SandboxBundle, uts: int, first: str = "") -> None:
        """Make the cgroup and set the host name of the namespace *uts*; the end is waited for, whoever is cancelled. Raises SetupFailed.

        *first* is the name of its first container's cgroup, which may be there then, too: that is a third of a millisecond less for its
        set-up to wait for.
        """
        if not bundle.fail_at and self._machine is not None:
            async with self._turn:
                if await self._shortly(self._machine, bundle, uts, first):
                    return
        await alone(lambda: sandbox_setup.furnish(bundle, uts, self._hierarchy))

    async def _shortly(
        self, machine: ThreadMachine, bundle: SandboxBundle, uts: int, first: str
    ) -> bool:
        """Return whether all is done."""
        controllers = calls.handed_down(self._hierarchy, bundle.cgroup)
        if controllers is None:
            return False
        below = calls.Below(Text(os.fsencode(first)), controllers) if first else None
        name = os.fsencode(bundle.hostname)
        enter = [
            Call("setns", (uts, int(CloneFlag.CLONE_NEWUTS))),
            Call("sethostname", (name, len(name))),
        ]
        try:
            machine.start(enter, self._cgroup(machine, bundle, below))
        except (OSError, OverflowError):
            return False
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._now = bundle.id, told
        try:
            return await _rung(machine, told)
        finally:
            self._now = None

    def is_done(self, sandbox: str) -> bool:
        """Whether all is done for *sandbox*, of which `furnish` may tell some turns of the loop later."""
        if self._machine is None or self._now is None or self._now[0] != sandbox:
            return False
        return _heard(self._machine, self._now[1]) and self._now[1].result()

    def _cgroup(
        self, machine: ThreadMachine, bundle: SandboxBundle, below: calls.Below | None
    ) -> Piece:
        hierarchy, resources = self._hierarchy, bundle.resources
        named = calls.names(hierarchy, bundle.cgroup, whole=True)

        def creation() -> list[Call]:
            fd = machine.descriptor
            return calls.creation(hierarchy, named, resources, None, fd, whole=True, below=below)

        down = below and below.controllers
        key = (tuple(v1_settings(resources)), tuple(v2_settings(resources)), down)
        texts = named if below is None else [*named[:2], below.name, *named[2:]]
        return machine.once(key, texts, creation)


def _heard(machine: ThreadMachine, told: asyncio.Future[bool]) -> bool:
    """Give *told* its result, once there is one; return whether it has it."""
    if not told.done():
        with contextlib.suppress(BlockingIOError):
            told.set_result(machine.succeeded())
    return told.done()


async def _rung(machine: ThreadMachine, told: asyncio.Future[bool]) -> bool:
    """Wait for its bell, whoever is cancelled: what the thread has been given must stay. Return whether every call succeeded."""
    loop = asyncio.get_running_loop()
    loop.add_reader(machine.bell, _heard, machine, told)
    told.add_done_callback(lambda _: loop.remove_reader(machine.bell))
    try:
        return await asyncio.shield(told)
    except asyncio.CancelledError:
        await asyncio.wait({told})
        raise
