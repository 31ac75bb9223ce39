"""Containers that are set up while their sandbox is being made: its network fails, or the daemon dies meanwhile; the leak check looks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from minipod.errors import FailedPrecondition, SetupFailed
from minipod.runtime.recover import Recovery
from minipod.runtime.service import SandboxStatus
from minipod.spec.container import ContainerSpec
from minipod.spec.ids import ContainerId
from tests.parts import NoLink, Parts, sandbox_spec
from tests.root.test_node_faults import directories

SPEC = ContainerSpec(name="c", image="busybox", command=("sleep", "1000"))


class Link(NoLink):
    """A pod network that is made when the test says so, or never."""

    def __init__(self, make: Callable[[], Awaitable[None]]) -> None:
        self.attach = lambda *_: make()  # type: ignore[assignment,method-assign]

    async def recover(self, _live: object) -> None:
        return


def parked(parts: Parts) -> bool:
    """Whether its set-up is over: its process waits for the word to execute."""
    return any(container.pid for container in parts.state.containers.values())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 the condition is a record
            await asyncio.sleep(0.01)


class Pod:
    """One sandbox and a container in it, at once."""

    def __init__(self, node, make: Callable[[Pod], Awaitable[None]]) -> None:
        self.parts = Parts(node)
        self.link = Link(lambda: make(self))
        self.parts.sandboxes._network = self.link  # type: ignore[assignment]
        self.container: asyncio.Task[ContainerId]
        self.parts.supervisor.connect()

    def _begun(self, status: SandboxStatus) -> None:
        record = self.parts.state.sandbox(status.id)
        self.container = asyncio.ensure_future(self.parts.containers.create(record, SPEC, ()))

    async def run(self) -> str:
        await self.parts.supervisor.request("subscribe")
        return await self.parts.sandboxes.run(sandbox_spec(), self._begun)

    def close(self) -> None:
        self.parts.supervisor.close()
        self.parts.close()


def test_a_container_is_parked_before_its_network_is_made_and_created_after(node) -> None:
    async def make(pod: Pod) -> None:
        await until(lambda: parked(pod.parts))
        assert not pod.container.done()

    async def main() -> None:
        pod = Pod(node, make)
        try:
            made = await pod.run()
            created = await pod.container
            assert pod.parts.state.container(created).state.value == "CREATED"
            await pod.parts.containers.remove(created)
            await pod.parts.sandboxes.remove(made)
        finally:
            pod.close()

    asyncio.run(main())
    assert directories(node) == []


@pytest.mark.parametrize("when", ["at once", "when it is parked"])
def test_a_network_that_fails_takes_the_container_along(node, when: str) -> None:
    async def make(pod: Pod) -> None:
        if when != "at once":
            await until(lambda: parked(pod.parts))
        raise SetupFailed("network", subject="eth0")

    async def main() -> None:
        pod = Pod(node, make)
        try:
            with pytest.raises(SetupFailed):
                await pod.run()
            with pytest.raises(FailedPrecondition):
                await pod.container
            assert not pod.parts.state.sandboxes
            assert not pod.parts.state.containers
        finally:
            pod.close()

    asyncio.run(main())
    assert directories(node) == []


def test_a_daemon_that_dies_meanwhile_leaves_what_the_next_one_removes(node) -> None:
    """The records are there, the container is parked, the sandbox is not ready: as kill -9 leaves them."""

    async def never(pod: Pod) -> None:
        await until(lambda: parked(pod.parts))
        pod.parts.supervisor.close()
        raise asyncio.CancelledError

    async def main() -> None:
        dead = Pod(node, never)
        with pytest.raises(asyncio.CancelledError):
            await dead.run()
        with pytest.raises(FailedPrecondition):
            await dead.container
        dead.close()
        assert directories(node)
        following = Parts(node)
        following.supervisor.connect()
        try:
            await following.supervisor.request("subscribe")
            network = Link(lambda: asyncio.sleep(0))
            await Recovery(
                node.instance, following.state, following.supervisor, following.sandboxes,
                following.containers, network,  # type: ignore[arg-type]
            ).run()  # fmt: skip
            assert not following.state.sandboxes
            assert not following.state.containers
        finally:
            following.supervisor.close()
            following.close()

    asyncio.run(main())
    assert directories(node) == []
    assert not os.listdir(f"{node.instance.run_dir}/sandboxes")
