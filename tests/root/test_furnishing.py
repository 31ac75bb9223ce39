"""A prepared sandbox becomes a pod's: its cgroup and its name by a program of system calls, and by the interpreter where that fails."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from minipod.cgroups.files import read
from minipod.cgroups.hierarchy import Hierarchy, Mode, detect
from minipod.errors import SetupFailed
from minipod.linux import namespaces
from minipod.linux.flags import CloneFlag
from minipod.runtime import sandbox_setup
from minipod.runtime.furnishing import Furnishing
from minipod.runtime.threads import alone
from minipod.spec.bundle import SandboxBundle
from minipod.spec.container import Resources
from tests.node import eventually

pytestmark = pytest.mark.smoke
TOP = f"t{os.getpid():x}xf"  # begins as in conftest.py: another run has another name
LIMITS = Resources(
    cpu_shares=512, cpu_quota=20000, cpu_period=100000, memory_limit=64 << 20, pids_limit=50
)  # fmt: skip
POD = SandboxBundle(id="s", title="default/pod", hostname="pod", cgroup=f"{TOP}/a/pod")
FILES = {
    "cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "memory.limit_in_bytes", "cpuset.cpus", "cpuset.mems",
    "cpu.weight", "cpu.max", "memory.max", "memory.swap.max", "pids.max", "cgroup.controllers",
}  # fmt: skip


@pytest.fixture(params=["all", "unified"])
def hierarchy(request: pytest.FixtureRequest) -> Iterator[Hierarchy]:
    found = detect()
    if request.param == "unified":
        if found.unified is None:
            pytest.skip("no unified hierarchy is mounted")
        found = Hierarchy(Mode.V2, (found.unified,))
    found.create(f"{TOP}/a/first", Resources())  # the tier is there, and hands down what it has
    yield found
    found.remove(TOP)


@pytest.fixture
async def furnishing(hierarchy: Hierarchy) -> AsyncIterator[Furnishing]:
    made = Furnishing(hierarchy)
    yield made
    made.close()


def fresh() -> int:
    namespaces.unshare(CloneFlag.CLONE_NEWUTS)
    return os.open("/proc/thread-self/ns/uts", os.O_RDONLY | os.O_CLOEXEC)


@pytest.fixture
async def uts() -> AsyncIterator[int]:
    fd = await alone(fresh)
    yield fd
    os.close(fd)


def name_in(uts: int) -> str:
    namespaces.setns(uts, CloneFlag.CLONE_NEWUTS)
    return socket.gethostname()


def settings(hierarchy: Hierarchy, cgroup: str) -> dict[str, bytes]:
    """Return what stands in those files of the cgroup that limits are written to."""
    directories = [tree.path(cgroup) for tree in hierarchy.trees]
    paths = {f"{d}/{f}": f"{n}/{f}" for n, d in enumerate(directories) for f in os.listdir(d)}
    return {name: read(p) for p, name in paths.items() if os.path.basename(p) in FILES}


def refuse(*_: object) -> None:
    raise AssertionError("the long way")


@pytest.mark.parametrize("limits", [Resources(), LIMITS], ids=["none", "all kinds"])
async def test_a_program_makes_what_the_interpreter_makes(
    hierarchy: Hierarchy, furnishing: Furnishing, uts: int, monkeypatch, limits: Resources
) -> None:
    """And leaves the process where and what it is."""
    monkeypatch.setattr(sandbox_setup, "furnish", refuse)
    before = os.getcwd(), socket.gethostname(), sorted(os.listdir("/proc/self/fd"))
    for name in ("one", "another"):  # written down, then filled in
        cgroup = f"{TOP}/a/{name}"
        pod = replace(POD, hostname=f"{name}-host", cgroup=cgroup, resources=limits)
        await furnishing.furnish(pod, uts, f"c-{name}")
        assert await alone(lambda: name_in(uts)) == pod.hostname
        hierarchy.create(f"{TOP}/a/other", limits)
        assert settings(hierarchy, cgroup) == settings(hierarchy, f"{TOP}/a/other")
        # Its first container's, where that is made next: in the unified tree nothing is left to be done.
        assert all(os.path.isdir(tree.path(f"{cgroup}/c-{name}")) for tree in hierarchy.trees)
        hierarchy.make_unified(f"{cgroup}/c-{name}")
        hierarchy.create(f"{cgroup}/c-{name}", LIMITS)
        hierarchy.create(f"{TOP}/a/other/c", LIMITS)
        made = settings(hierarchy, f"{cgroup}/c-{name}")
        assert made == settings(hierarchy, f"{TOP}/a/other/c")
    after = os.getcwd(), socket.gethostname(), sorted(os.listdir("/proc/self/fd"))
    assert after == before


async def test_what_a_hierarchy_refuses_is_told_by_the_long_way(
    furnishing: Furnishing, hierarchy: Hierarchy, uts: int
) -> None:
    """Then the program is as good as before."""
    if not {"pids", "hugetlb"} & hierarchy.controllers:
        pytest.skip("neither controller is here")
    limits = Resources(pids_limit=-5, hugepage_limits={"3MB": 0})
    with pytest.raises(SetupFailed, match="create, limit") as told:
        await furnishing.furnish(replace(POD, resources=limits), uts)
    assert told.value.errno
    await furnishing.furnish(replace(POD, resources=LIMITS), uts)


async def test_a_name_that_is_too_long_is_told(furnishing: Furnishing, uts: int) -> None:
    with pytest.raises(SetupFailed) as told:
        await furnishing.furnish(replace(POD, hostname="x" * 65), uts)
    assert (told.value.errno, told.value.subject) == (errno.EINVAL, "x" * 65)


async def test_an_injected_fault_is_told(furnishing: Furnishing, uts: int) -> None:
    with pytest.raises(SetupFailed) as told:
        await furnishing.furnish(replace(POD, fail_at="SetHostname"), uts)
    assert told.value.errno == errno.EIO


async def test_a_tier_that_is_missing_is_made(
    furnishing: Furnishing, hierarchy: Hierarchy, uts: int
) -> None:
    """The program ends there; the long way makes what is above, too."""
    pod = replace(POD, cgroup=f"{TOP}/new/pod", resources=LIMITS)
    await furnishing.furnish(pod, uts)
    hierarchy.create(f"{TOP}/a/other", LIMITS)
    assert settings(hierarchy, pod.cgroup) == settings(hierarchy, f"{TOP}/a/other")


async def test_who_is_cancelled_waits_for_the_end_and_the_next_is_served(
    furnishing: Furnishing, hierarchy: Hierarchy, uts: int
) -> None:
    task = asyncio.ensure_future(furnishing.furnish(POD, uts))
    await asyncio.sleep(0)  # it has started the thread
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all(os.path.isdir(tree.path(POD.cgroup)) for tree in hierarchy.trees)
    pods = [replace(POD, cgroup=f"{TOP}/a/{n}", resources=LIMITS) for n in range(20)]
    await asyncio.gather(*(furnishing.furnish(pod, uts) for pod in pods))
    assert all(os.path.isdir(t.path(pod.cgroup)) for t in hierarchy.trees for pod in pods)


async def test_its_end_is_known_before_the_loop_tells(
    furnishing: Furnishing, hierarchy: Hierarchy, uts: int
) -> None:
    assert not furnishing.is_done(POD.id)
    task = asyncio.ensure_future(furnishing.furnish(POD, uts))
    await asyncio.sleep(0)  # it has started the thread; no turn of the loop from here on
    eventually(lambda: furnishing.is_done(POD.id))
    assert all(os.path.isdir(tree.path(POD.cgroup)) for tree in hierarchy.trees)
    assert not furnishing.is_done("another")
    assert not task.done()
    await task
    assert not furnishing.is_done(POD.id)


async def test_the_end_of_a_program_that_failed_is_not_that_of_the_long_way(
    furnishing: Furnishing, uts: int
) -> None:
    pod = replace(POD, hostname="x" * 65)
    task = asyncio.ensure_future(furnishing.furnish(pod, uts))
    while not task.done():
        assert not furnishing.is_done(pod.id)
        await asyncio.sleep(0)
    assert isinstance(task.exception(), SetupFailed)
