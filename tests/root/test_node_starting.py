"""Containers whose start is asked for while they are being created. Excluded: the kubelet's part (tests/unit/test_kubelet_ahead.py)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from minipod.errors import FailedPrecondition, SetupFailed
from minipod.runtime.service import ContainerState
from minipod.runtime.state import Container, SandboxRecord
from minipod.spec.container import ContainerSpec, Mount
from minipod.spec.ids import ContainerId
from minipod.supervisor.records import read_state
from tests.node import eventually
from tests.parts import Parts
from tests.root.test_node_containers import sandbox_of

SPEC = ContainerSpec(name="c", image="busybox", command=("sleep", "1000"))


class Both:
    """The creation and the start of one container, the one in the other."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.starting: asyncio.Task[None]
        self.container: Container

    def _begun(self, container: ContainerId) -> None:
        self.container = self.parts.state.container(container)
        self.starting = asyncio.ensure_future(self.parts.containers.start(self.container))

    async def make(self, sandbox: SandboxRecord, spec: ContainerSpec, fault: str = "") -> None:
        """Raises what the creation raises, then what the start does."""
        containers = self.parts.containers
        await containers.create(sandbox, spec, (), begun=self._begun, fail_at=fault)
        await self.starting


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        pytest.param({}, "", id="short way"),
        pytest.param({}, "nothing", id="long way"),
        pytest.param({"tty": True}, "", id="tty"),
        pytest.param({"mounts": ("to/be/made",)}, "", id="short way fails"),
    ],
)
def test_it_runs_and_its_end_is_known(node, tmp_path, asked, fault: str) -> None:
    """One that goes on, and one that is over at once: its start is told before its end."""
    (tmp_path / "v").mkdir()
    mounts = tuple(
        Mount(host_path=f"{tmp_path}/v", container_path="/s", sub_path=part)
        for part in asked.get("mounts", ())
    )
    spec = replace(SPEC, **{**asked, "mounts": mounts})

    async def main() -> None:
        async with sandbox_of(node, str(tmp_path)) as (parts, sandbox):
            both = Both(parts)
            await both.make(sandbox, spec, fault)
            assert both.container.state is ContainerState.RUNNING
            await parts.containers.remove(both.container.record.id)
            await both.make(sandbox, replace(spec, command=("sh", "-c", "exit 3")), fault)
            assert both.container.started_at >= both.container.created_at > 0
            await both.container.ended.wait()
            assert both.container.exit is not None
            assert both.container.exit.code == 3
            await parts.containers.remove(both.container.record.id)

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["MountRoot", "SetIdentity"])
def test_what_can_not_be_created_is_not_started(node, tmp_path, fault: str) -> None:
    async def main() -> None:
        async with sandbox_of(node, str(tmp_path)) as (parts, sandbox):
            both = Both(parts)
            with pytest.raises(SetupFailed):
                await both.make(sandbox, SPEC, fault)
            with pytest.raises(FailedPrecondition, match="could not be created"):
                await both.starting
            assert not parts.state.containers

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["", "nothing"])
def test_what_can_not_be_executed_is_created(node, tmp_path, fault: str) -> None:
    """The start says why, and the container has ended with 128."""

    async def main() -> None:
        async with sandbox_of(node, str(tmp_path)) as (parts, sandbox):
            both = Both(parts)
            with pytest.raises(SetupFailed, match="permission denied"):
                await both.make(sandbox, replace(SPEC, command=("/etc/passwd",)), fault)
            assert both.container.created_at
            assert both.container.exit is not None
            assert both.container.exit.code == 128
            await parts.containers.remove(both.container.record.id)

    asyncio.run(main())


def test_one_that_is_removed_meanwhile_is_gone(node, tmp_path) -> None:
    """Its set-up hangs; nobody waits for its end."""

    async def main() -> None:
        async with sandbox_of(node, str(tmp_path)) as (parts, sandbox):
            both = Both(parts)
            making = asyncio.ensure_future(both.make(sandbox, SPEC, "hang:PivotRoot"))
            async with asyncio.timeout(60):
                while not hasattr(both, "starting"):  # noqa: ASYNC110 it is set by a callback
                    await asyncio.sleep(0.01)
            making.cancel()
            await asyncio.wait((making,))
            with pytest.raises(FailedPrecondition, match="could not be created"):
                await both.starting
            assert not parts.state.containers

    asyncio.run(main())


def test_one_that_runs_already_when_its_creation_is_given_up_is_killed(node, tmp_path) -> None:
    """Both answers wait in the socket, unread."""

    async def main() -> None:
        async with sandbox_of(node, str(tmp_path)) as (parts, sandbox):
            both = Both(parts)
            making = asyncio.ensure_future(both.make(sandbox, SPEC))
            async with asyncio.timeout(60):
                while not (hasattr(both, "container") and both.container.starting):  # noqa: ASYNC110 a turn of the loop each
                    await asyncio.sleep(0)
            directory = parts.state.container_directory(both.container.record.id)

            def started() -> bool:
                state = read_state(directory)
                return state is not None and state.started_at > 0

            eventually(started)  # no turn of the loop meanwhile
            assert not both.container.pid
            making.cancel()
            await asyncio.wait((making, both.starting))
            assert not parts.state.containers

    asyncio.run(main())
