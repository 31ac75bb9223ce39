"""A cgroup as a program: which calls for which trees. Excluded: what the kernel makes of them (tests/root/test_furnishing.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minipod.cgroups import calls
from minipod.cgroups.hierarchy import Hierarchy, Mode, Tree
from minipod.linux.program import Call, Text
from minipod.spec.container import Resources

CPU = Tree(mountpoint="/v1/cpu", controllers=frozenset({"cpu"}))
PIDS = Tree(mountpoint="/v1/pids", controllers=frozenset({"pids"}))
CPUSET = Tree(mountpoint="/v1/cpuset", controllers=frozenset({"cpuset"}))
BARE = Tree(mountpoint="/unified", controllers=frozenset(), unified=True)
UNIFIED = Tree(
    mountpoint="/unified", base="/ours", controllers=frozenset({"cpu", "cpuset", "pids"}), unified=True
)  # fmt: skip
MADE = ["mkdirat pod", "chdir pod"]


def words(call: Call) -> str:
    """Return a call with its texts; none of the numbers that are always the same."""
    return " ".join([call.name, *(os.fsdecode(a) for a in call.arguments if isinstance(a, bytes))])


def written(file: str, value: str) -> list[str]:
    return [f"openat {file}", f"write {value}", "close"]


def inherited(file: str) -> list[str]:
    return [f"openat ../{file}", "read", "close", f"openat {file}", "write", "close"]


@pytest.mark.parametrize(
    ("trees", "whole", "expected"),
    [
        pytest.param(
            (CPU, CPUSET, BARE), True,
            [
                "chdir /v1/cpu/pods", *MADE, *written("cpu.shares", "512"),
                "chdir /v1/cpuset/pods", *MADE, *inherited("cpuset.cpus"), *inherited("cpuset.mems"),
                "chdir /unified/pods", *MADE,
            ],
            id="a pod on v1 with an empty unified tree beside",
        ),
        pytest.param(
            (CPU, PIDS, BARE), False,
            [
                "chdir /v1/pids/pods", *MADE, *written("pids.max", "9"), *written("tasks", "0"),
                "chdir /v1/cpu/pods", *MADE, *written("cpu.shares", "512"), *written("tasks", "0"),
            ],
            id="a container's there, which is entered",
        ),
        pytest.param(
            (UNIFIED,), True,
            ["chdir /unified/ours/pods", *MADE, *written("cpu.weight", "59"), *written("pids.max", "9")],
            id="a pod on v2",
        ),
        pytest.param((UNIFIED,), False, [], id="a container on v2 is born in its cgroup"),
    ],
)  # fmt: skip
def test_a_cgroup_is_these_calls(trees: tuple[Tree, ...], whole: bool, expected: list[str]) -> None:
    hierarchy = Hierarchy(Mode.HYBRID, trees)
    named = calls.names(hierarchy, "pods/pod", whole=whole)
    resources = Resources(cpu_shares=512, pids_limit=9)
    made = calls.creation(hierarchy, named, resources, None, 3, whole=whole)
    assert [words(call) for call in made] == expected


def test_one_below_it_has_its_controllers_before_it_is_there() -> None:
    hierarchy = Hierarchy(Mode.HYBRID, (CPU, UNIFIED))
    named = calls.names(hierarchy, "pods/pod", whole=True)
    below = calls.Below(Text(b"c"), frozenset({"pids", "cpu"}))
    made = calls.creation(hierarchy, named, Resources(), None, 3, whole=True, below=below)
    down = ["openat cgroup.subtree_control", "write +cpu", "write +pids", "close"]
    assert [words(call) for call in made] == [
        "chdir /v1/cpu/pods", *MADE, "mkdirat c", "chdir /unified/ours/pods", *MADE, *down, "mkdirat c",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("available", "enabled", "down"),
    [
        pytest.param(
            "cpu pids memory",
            "pids cpu",
            frozenset({"cpu", "pids"}),
            id="ours are, of those that there are",
        ),
        pytest.param("cpu pids memory", "cpu", None, id="one is not"),
        pytest.param("", "", frozenset(), id="there are none"),
        pytest.param(None, None, None, id="there is no such cgroup yet"),
    ],
)
def test_who_is_handed_what_is_below_is_looked_at_before(
    tmp_path: Path, available: str | None, enabled: str | None, down: frozenset[str] | None
) -> None:
    tree = Tree(mountpoint=str(tmp_path), controllers=UNIFIED.controllers, unified=True)
    if available is not None and enabled is not None:
        (tmp_path / "pods").mkdir()
        (tmp_path / "pods/cgroup.controllers").write_text(f"{available}\n")
        (tmp_path / "pods/cgroup.subtree_control").write_text(f"{enabled}\n")
    assert calls.handed_down(Hierarchy(Mode.V2, (tree,)), "pods/pod") == down


def test_a_tree_without_controllers_has_none_to_hand_down() -> None:
    assert calls.handed_down(Hierarchy(Mode.HYBRID, (CPU, BARE)), "pods/pod") == frozenset()
