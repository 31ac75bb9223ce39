"""Sandboxes that are made before a pod asks: namespaces and their pins, address, link and routes. The next pods take one each.

    while the node is idle   record (nobody's) -> address -> namespaces, pins -> link        one after another, until `size` wait
    a pod that fits          record (the pod's, of the same id) -> cgroup, host name         what only the pod can say

Nothing else tells a prepared sandbox from one that was cut off half-way: its record says that it is not ready, and of no pod. So what a
killed daemon has prepared is undone by the recovery of the next one, and no list shows it. An orderly end undoes it.

A burst finds what there is (`idle`) and makes the rest itself. Who wants other namespaces than most (the node's network, a user
namespace, sysctls, a shaped link) has them made, too.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from minipod.cgroups.hierarchy import Hierarchy
from minipod.network.network import UNLIMITED, Network
from minipod.runtime import sandbox_setup
from minipod.runtime.sandbox_setup import Made
from minipod.runtime.state import SandboxRecord, State
from minipod.runtime.threads import alone
from minipod.spec.ids import SandboxId
from minipod.spec.sandbox import NamespaceMode, SandboxMetadata, SandboxSpec

NOBODYS: Final = SandboxSpec(
    metadata=SandboxMetadata(name="", namespace="", uid=""),
    hostname="",
    log_directory="/",
    cgroup_parent="/",  # none that is ours: it is made for the pod
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One that waits. *uts* is an fd of its namespace; whoever takes it closes it."""

    id: SandboxId
    ips: tuple[str, ...]
    namespaces: dict[str, int]
    uts: int


def fits(spec: SandboxSpec) -> bool:
    """Whether a prepared sandbox is what *spec* asks for, once it has its name, cgroup and host ports."""
    return (
        spec.network is NamespaceMode.POD
        and spec.ipc is NamespaceMode.POD
        and spec.userns is None
        and spec.bandwidth == UNLIMITED
        and not spec.sysctls
        and spec.shm_size == NOBODYS.shm_size
    )


class PreparedSandboxes:
    """The sandboxes of one node that wait for a pod. *discard* removes one as any other sandbox."""

    def __init__(
        self,
        state: State,
        network: Network,
        hierarchy: Hierarchy,
        vault: str,
        discard: Callable[[SandboxId], Awaitable[None]],
    ) -> None:
        self._state = state
        self._network = network
        self._hierarchy = hierarchy
        self._vault = vault
        self._discard = discard
        self._size = 0
        self._waiting: list[Prepared] = []

    def keep(self, size: int) -> None:
        """Keep so many from now on, which `more` prepares."""
        self._size = size

    async def close(self) -> None:
        """Undo what waits, and prepare no more. Idempotent."""
        self._size = 0
        await asyncio.gather(*(self._give_back(one) for one in self._waiting))
        self._waiting.clear()

    async def more(self) -> bool:
        """Prepare one; False: as many as are kept wait. Raises OSError, MinipodError, with all of it undone."""
        if len(self._waiting) >= self._size:
            return False
        self._waiting.append(await self._prepare())
        return True

    def take(self, spec: SandboxSpec) -> Prepared | None:
        """Return one that *spec* fits; its record is nobody's until the caller writes another. None: it has to be made."""
        return self._waiting.pop(0) if self._waiting and fits(spec) else None

    def put_back(self, one: Prepared) -> None:
        """Let one wait again whose taker could not even write that it has it."""
        self._waiting.insert(0, one)

    async def free_address(self) -> bool:
        """Undo one, for the sake of its address: a pod found none. False when none waits."""
        if not self._waiting:
            return False
        await self._give_back(self._waiting.pop())
        return True

    async def _prepare(self) -> Prepared:
        sandbox = SandboxId(uuid.uuid4().hex)
        self._state.put_sandbox(SandboxRecord(id=sandbox, spec=NOBODYS, created_at=time.time()))
        self._state.building.add(sandbox)
        try:
            ips = self._network.lease(sandbox)
            made = await self._namespaces(sandbox)
            try:
                await self._network.attach(sandbox, made.network)
            except BaseException:
                os.close(made.uts)
                raise
            finally:
                os.close(made.network)
        except BaseException:
            await asyncio.shield(self._undo(sandbox))
            raise
        return Prepared(id=sandbox, ips=ips, namespaces=made.namespaces, uts=made.uts)

    async def _namespaces(self, sandbox: SandboxId) -> Made:
        """Wait for the thread's end, whoever is cancelled: no pin may be made behind the undoing."""
        size, vault = NOBODYS.shm_size, self._vault
        building = asyncio.ensure_future(
            alone(lambda: sandbox_setup.prepare(sandbox, size, self._hierarchy, vault))
        )
        try:
            return await asyncio.shield(building)
        except asyncio.CancelledError:
            await asyncio.wait({building})
            if building.exception() is None:
                os.close(building.result().network)
                os.close(building.result().uts)
            raise

    async def _give_back(self, one: Prepared) -> None:
        os.close(one.uts)
        await self._undo(one.id)

    async def _undo(self, sandbox: SandboxId) -> None:
        try:
            await self._discard(sandbox)
        finally:
            self._state.building.discard(sandbox)
