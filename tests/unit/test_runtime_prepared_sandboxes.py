"""When sandboxes are prepared, for whom they are, and that each is undone that nobody takes. Excluded: the namespaces themselves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minipod.errors import SetupFailed
from minipod.runtime import idle, sandbox_setup
from minipod.runtime.idle import Idle
from minipod.runtime.prepared_sandboxes import NOBODYS, PreparedSandboxes, fits
from minipod.runtime.sandbox import Sandboxes
from minipod.runtime.sandbox_setup import Made
from minipod.runtime.state import State
from minipod.spec.ids import SandboxId
from minipod.spec.instance import Instance
from minipod.spec.sandbox import Bandwidth, NamespaceMode, SandboxMetadata, UserNamespace

POD = replace(NOBODYS, hostname="web", cgroup_parent="pod")
METADATA = SandboxMetadata(name="web", namespace="default", uid="web")


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 nothing tells of it but what is looked at
            await asyncio.sleep(0.001)


class Link:
    """A network that leases numbers, and connects unless it is told to fail."""

    def __init__(self) -> None:
        self.leased = 0
        self.fails = False

    def lease(self, _sandbox: str) -> tuple[str, ...]:
        self.leased += 1
        return (f"10.0.0.{self.leased}",)

    async def attach(self, _sandbox: str, fd: int) -> None:
        os.fstat(fd)
        if self.fails:
            raise SetupFailed("network", subject="eth0")


class Rig:
    """The sandboxes that wait, over a fake network and empty namespaces."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "sandboxes").mkdir()
        self.state = State(str(tmp_path))
        self.link = Link()
        self.fds: list[int] = []
        monkeypatch.setattr(sandbox_setup, "prepare", self._prepare)
        nothing: Any = None
        link: Any = self.link
        self.waiting = PreparedSandboxes(self.state, link, nothing, "", self._discard)
        self.idle = Idle(self.waiting.more)

    def open(self, size: int) -> None:
        self.waiting.keep(size)
        self.idle.open()

    async def close(self) -> None:
        await self.idle.close()
        await self.waiting.close()

    def _prepare(self, *_: object) -> Made:
        made = Made(namespaces={}, network=os.open("/", os.O_RDONLY), uts=os.open("/", os.O_RDONLY))
        self.fds += [made.network, made.uts]
        return made

    async def _discard(self, sandbox: SandboxId) -> None:
        self.state.drop_sandbox(sandbox)

    async def until(self, count: int) -> None:
        await until(lambda: len(self.waiting._waiting) == count)


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


async def test_an_idle_node_prepares_as_many_as_it_keeps(rig: Rig) -> None:
    rig.open(2)
    await rig.until(2)
    assert len(rig.state.sandboxes_of("")) == 2
    assert set(rig.state.building) == set(rig.state.sandboxes)  # no recovery touches them
    await rig.close()
    assert not rig.state.sandboxes
    assert not rig.state.building


async def test_nothing_is_prepared_while_somebody_waits(rig: Rig) -> None:
    rig.open(1)
    with rig.idle.busy():
        await asyncio.sleep(4 * idle.QUIET)
        assert not rig.link.leased
    await rig.until(1)
    await rig.close()


async def test_one_that_is_taken_is_the_takers_and_another_is_prepared(rig: Rig) -> None:
    rig.open(1)
    await rig.until(1)
    with rig.idle.busy():
        taken = rig.waiting.take(POD)
    assert taken is not None
    assert rig.waiting.take(POD) is None
    await rig.until(1)
    await rig.close()
    assert list(rig.state.sandboxes) == [taken.id]
    os.close(taken.uts)


async def test_one_that_fails_is_undone_and_the_next_idle_moment_tries_again(rig: Rig) -> None:
    rig.link.fails = True
    rig.open(1)
    await until(lambda: rig.link.leased and not rig.idle._working)
    assert not rig.state.sandboxes
    for fd in rig.fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    rig.link.fails = False
    with rig.idle.busy():
        pass
    await rig.until(1)
    await rig.close()


def taking(rig: Rig) -> Sandboxes:
    """Return the verbs over what waits, without a supervisor, and with nothing that a sandbox is made with."""
    nothing: Any = None
    lost: Any = SimpleNamespace(connected=False)
    sandboxes = Sandboxes(Instance(), rig.state, lost, nothing, nothing)
    sandboxes.prepared = rig.waiting
    return sandboxes


async def test_one_whose_taker_has_no_room_for_its_record_waits_again(rig: Rig) -> None:
    """The run directory is full; here what the record is written to is in the way."""
    rig.open(1)
    await rig.until(1)
    (waits,) = rig.waiting._waiting
    obstacle = f"{rig.state.run_dir}/sandboxes/{waits.id}.json.{os.getpid()}"
    os.mkdir(obstacle)
    with rig.idle.busy(), pytest.raises(IsADirectoryError):
        await taking(rig).run(replace(POD, metadata=METADATA))
    os.rmdir(obstacle)
    assert rig.waiting._waiting == [waits]
    assert rig.state.sandboxes[waits.id].spec == NOBODYS
    await rig.close()
    assert not rig.state.sandboxes


async def test_of_one_whose_taker_has_no_room_for_more_no_descriptor_stays_open(rig: Rig) -> None:
    rig.open(1)
    await rig.until(1)
    (waits,) = rig.waiting._waiting
    obstacle = f"{rig.state.run_dir}/sandboxes/{waits.id}.hostname"
    os.mkdir(obstacle)
    with rig.idle.busy(), pytest.raises(FileExistsError):
        await taking(rig).run(replace(POD, metadata=METADATA))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(waits.uts)
    assert not rig.state.building - {one.id for one in rig.waiting._waiting}
    await rig.close()


async def test_an_address_is_freed_for_a_pod_that_found_none(rig: Rig) -> None:
    rig.open(1)
    await rig.until(1)
    with rig.idle.busy():
        assert await rig.waiting.free_address()
        assert not rig.state.sandboxes
        assert not await rig.waiting.free_address()
    await rig.close()


@pytest.mark.parametrize(
    ("change", "fitting"),
    [
        pytest.param({}, True, id="as most"),
        pytest.param({"pid": NamespaceMode.POD}, True, id="a shared pid namespace"),
        pytest.param({"network": NamespaceMode.NODE}, False, id="the node's network"),
        pytest.param({"ipc": NamespaceMode.NODE}, False, id="the node's ipc"),
        pytest.param({"userns": UserNamespace(first=1 << 20)}, False, id="a user namespace"),
        pytest.param({"bandwidth": Bandwidth(egress=1)}, False, id="a shaped link"),
        pytest.param({"sysctls": (("kernel.msgmax", "1"),)}, False, id="a sysctl"),
        pytest.param({"shm_size": 1 << 20}, False, id="another size of /dev/shm"),
    ],
)
def test_who_fits(change: dict[str, Any], fitting: bool) -> None:
    assert fits(replace(POD, **change)) is fitting
