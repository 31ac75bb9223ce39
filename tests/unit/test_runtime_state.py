"""The runtime's tables: what belongs to a pod is found without a look at the others', and is struck off with it."""

from __future__ import annotations

import os
from pathlib import Path

from minipod.runtime.state import ContainerRecord, SandboxRecord, State
from minipod.spec.container import ContainerSpec
from minipod.spec.ids import ContainerId, SandboxId
from minipod.spec.sandbox import SandboxMetadata, SandboxSpec


def tables(tmp_path: Path) -> State:
    for name in ("sandboxes", "containers"):
        os.makedirs(tmp_path / name, exist_ok=True)
    return State(str(tmp_path))


def sandbox(name: str, uid: str, attempt: int = 0) -> SandboxRecord:
    metadata = SandboxMetadata(name="web", namespace="default", uid=uid, attempt=attempt)
    spec = SandboxSpec(metadata=metadata, hostname="web", log_directory="/", cgroup_parent="pod")
    return SandboxRecord(id=SandboxId(name), spec=spec, created_at=1.0)


def container(name: str, of: str) -> ContainerRecord:
    return ContainerRecord(
        id=ContainerId(name), sandbox_id=SandboxId(of), spec=ContainerSpec(name=name, image="i"),
        image_ref="i", image_id="i", stop_signal=15, cgroup="c", log_path="l", asked_at=1.0,
    )  # fmt: skip


def fill(state: State) -> None:
    for record in (sandbox("a0", "a"), sandbox("b0", "b"), sandbox("a1", "a", attempt=1)):
        state.put_sandbox(record)
    for record in (container("x", "a0"), container("y", "b0"), container("z", "a1")):
        state.put_container(record)


def test_what_belongs_to_a_pod_is_found_by_its_uid(tmp_path: Path) -> None:
    """Of all attempts; another pod's is not among it, an unknown pod has nothing."""
    state = tables(tmp_path)
    fill(state)
    assert [s.id for s in state.sandboxes_of("a")] == ["a0", "a1"]
    assert [c.record.id for c in state.containers_of_pod("a")] == ["x", "z"]
    assert [c.record.id for c in state.containers_of(SandboxId("b0"))] == ["y"]
    assert not state.sandboxes_of("c")
    assert not state.containers_of_pod("c")


def test_what_is_dropped_is_found_no_more_and_may_be_dropped_twice(tmp_path: Path) -> None:
    state = tables(tmp_path)
    fill(state)
    for _ in range(2):
        state.drop_container(ContainerId("x"))
        state.drop_sandbox(SandboxId("a0"))
    assert [s.id for s in state.sandboxes_of("a")] == ["a1"]
    assert [c.record.id for c in state.containers_of_pod("a")] == ["z"]
    state.put_sandbox(sandbox("a1", "a", attempt=1))  # written anew, not known twice
    assert [s.id for s in state.sandboxes_of("a")] == ["a1"]


def test_records_that_are_read_back_are_found_the_same_way(tmp_path: Path) -> None:
    """By the daemon that comes after a kill."""
    fill(tables(tmp_path))
    state = tables(tmp_path)
    for name in ("a0", "a1", "b0"):
        state.load_sandbox(f"{name}.json")
    for name in ("x", "y", "z"):
        state.load_container(name)
    assert [s.id for s in state.sandboxes_of("a")] == ["a0", "a1"]
    assert [c.record.id for c in state.containers_of_pod("a")] == ["x", "z"]
