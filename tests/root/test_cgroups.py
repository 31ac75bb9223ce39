"""cgroups on the real kernel: the trees of this machine, and the unified one alone where it is mounted (what v2 is made of)."""

from __future__ import annotations

import os
import select
import signal
import time

import pytest

from minipod.cgroups import files
from minipod.cgroups.devices import DevicePolicy
from minipod.cgroups.files import read
from minipod.cgroups.hierarchy import Hierarchy, Mode, detect
from minipod.linux.process import pidfd_open
from minipod.spec.container import Resources
from tests.node import eventually

pytestmark = pytest.mark.smoke
TOP = f"t{os.getpid():x}xc"  # begins as in conftest.py: another run has another name. Not the node's own, which is there, too
PATH = f"{TOP}/a/b"


@pytest.fixture(params=["all", "unified"])
def hierarchy(request):
    found = detect()
    if request.param == "unified":
        if found.unified is None:
            pytest.skip("no unified hierarchy is mounted")
        found = Hierarchy(Mode.V2, (found.unified,))
    yield found
    found.kill(TOP)
    found.remove(TOP)


def child(hierarchy: Hierarchy, function, path: str = PATH) -> int:
    """Run *function* in a forked child inside the cgroup; return its exit code, 128 + signal when killed."""
    pid = os.fork()
    if pid == 0:
        try:
            hierarchy.attach(path, 0)
            os._exit(function() or 0)
        except OSError as e:
            os._exit(e.errno or 1)
    _, status = os.waitpid(pid, 0)
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def open_device(path: str) -> int:
    os.close(os.open(path, os.O_RDONLY))
    return 0


def test_only_the_allowed_devices_open(hierarchy) -> None:
    """By devices.allow where that hierarchy exists, by a BPF program on the unified one alone."""
    hierarchy.create(PATH, Resources(), devices=DevicePolicy.of(privileged=False))
    assert child(hierarchy, lambda: open_device("/dev/null")) == 0
    assert child(hierarchy, lambda: open_device("/dev/kmsg")) == 1  # EPERM


def test_a_privileged_policy_allows_all_devices(hierarchy) -> None:
    hierarchy.create(PATH, Resources(), devices=DevicePolicy.of(privileged=True))
    assert child(hierarchy, lambda: open_device("/dev/kmsg")) == 0


def test_kill_ends_everything_below(hierarchy) -> None:
    hierarchy.create(PATH, Resources())
    pid = os.fork()
    if pid == 0:
        hierarchy.attach(PATH, 0)
        signal.pause()
        os._exit(0)
    pidfd = pidfd_open(pid)
    while pid not in hierarchy.procs(PATH):
        select.select([pidfd], [], [], 0.01)
    hierarchy.kill(TOP)
    assert select.select([pidfd], [], [], 60)[0]
    os.close(pidfd)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def test_remove_is_idempotent_and_leaves_no_directory(hierarchy) -> None:
    hierarchy.create(PATH, Resources())
    hierarchy.remove(TOP)
    hierarchy.remove(TOP)
    assert not any(os.path.exists(tree.path(TOP)) for tree in hierarchy.trees)


def test_only_what_is_empty_is_removed_at_once(hierarchy) -> None:
    hierarchy.create(PATH, Resources())
    assert not hierarchy.remove_empty(TOP)
    pid = os.fork()
    if pid == 0:
        hierarchy.attach(PATH, 0)
        signal.pause()
        os._exit(0)
    eventually(lambda: all(pid in pids(tree.path(PATH)) for tree in hierarchy.trees))
    assert not hierarchy.remove_empty(PATH)
    assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None
    hierarchy.kill(TOP)
    hierarchy.remove(TOP)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert hierarchy.remove_empty(TOP)
    assert not any(os.path.exists(tree.path(TOP)) for tree in hierarchy.trees)


def pids(directory: str) -> list[int]:
    return [int(pid) for pid in read(f"{directory}/cgroup.procs").split()]


def test_one_whose_making_was_cut_off_is_completed() -> None:
    """A new v1 cpuset is empty, and nobody can enter it."""
    hierarchy = detect()
    tree = next((t for t in hierarchy.trees if "cpuset" in t.controllers and not t.unified), None)
    if tree is None:
        pytest.skip("no cpuset tree of v1 is mounted")
    try:
        os.mkdir(tree.path(TOP))
        hierarchy.create(TOP, Resources())
        assert child(hierarchy, lambda: 0, TOP) == 0
    finally:
        hierarchy.remove(TOP)


def test_a_cgroup_that_goes_while_its_files_are_open_is_a_cgroup_that_is_gone(
    hierarchy, monkeypatch
) -> None:
    """kernfs answers ENODEV then; whoever handles FileNotFoundError must not have to know."""
    hierarchy.create(PATH, Resources())
    tree, real = hierarchy.trees[0], os.open

    def opened_then_removed(path: str, flags: int) -> int:
        fd = real(path, flags)
        hierarchy.remove(TOP)
        return fd

    monkeypatch.setattr(files.os, "open", opened_then_removed)
    with pytest.raises(FileNotFoundError):
        files.read(f"{tree.path(PATH)}/cgroup.procs")
    monkeypatch.undo()
    hierarchy.create(PATH, Resources())
    monkeypatch.setattr(files.os, "open", opened_then_removed)
    with pytest.raises(FileNotFoundError):
        files.write(f"{tree.path(PATH)}/cgroup.procs", "0")


def test_a_file_of_many_pages_is_read_whole() -> None:
    """The kernel gives a page with each read(2), of cgroup.procs as of this one, which is long without 600 processes."""
    assert b"[stack]" in read("/proc/self/smaps")  # the last of some hundred mappings


def test_a_frozen_cgroup_stands_still(hierarchy) -> None:
    hierarchy.create(PATH, Resources())
    hierarchy.freeze(PATH, frozen=True)
    tree = next((t for t in hierarchy.trees if "freezer" in t.controllers), hierarchy.unified)
    name = "freezer.state" if "freezer" in tree.controllers else "cgroup.freeze"
    assert read(f"{tree.path(PATH)}/{name}").strip() in (b"FROZEN", b"1")
    hierarchy.freeze(PATH, frozen=False)


def burn() -> int:
    """Use the cpu for 20 ms: at 2 ms in each period, which a loaded machine has for it, too, that takes ten of them."""
    end = time.process_time() + 0.02
    while time.process_time() < end:
        pass
    return 0


def throttled(hierarchy: Hierarchy) -> int:
    """Return in how many periods the kernel has held the cgroup back."""
    tree = next(t for t in hierarchy.trees if "cpu" in t.controllers)
    with open(f"{tree.path(PATH)}/cpu.stat", encoding="ascii") as f:
        return int(dict(line.split() for line in f)["nr_throttled"])


def test_limits_are_really_enforced() -> None:
    hierarchy = detect()
    if "pids" not in hierarchy.controllers or "memory" not in hierarchy.controllers:
        pytest.skip("this machine has no pids or no memory controller")
    try:
        hierarchy.create(
            PATH, Resources(pids_limit=2, memory_limit=32 << 20, cpu_quota=2000, cpu_period=100000)
        )

        def fork_too_often() -> int:
            for _ in range(4):
                if os.fork() == 0:
                    signal.alarm(2)
                    signal.pause()
            return 0

        assert child(hierarchy, burn) == 0
        hierarchy.update(PATH, Resources(cpu_quota=100000, cpu_period=100000))
        assert child(hierarchy, fork_too_often) == 11  # EAGAIN
        hierarchy.kill(PATH)
        hierarchy.update(PATH, Resources(pids_limit=10))
        assert child(hierarchy, lambda: len(bytearray(128 << 20)) and 0) == 137
        assert hierarchy.oom_kills(PATH) >= 1
        assert throttled(hierarchy) > 0
    finally:
        hierarchy.kill(TOP)
        hierarchy.remove(TOP)
