"""The first container of a new sandbox, set up while that is made, on looptime over fakes. Excluded: the runtime, the kernel."""

from __future__ import annotations

import asyncio

import pytest

from minipod.errors import SetupFailed
from tests.fakes.kubelet import Node, clock, running
from tests.fakes.runtime import FakeRuntime
from tests.fakes.store import FakeStore

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]
IMAGE = "busybox:1.36"
BROKEN = SetupFailed("network", subject="eth0", detail="no such device")


def plain(name: str, **fields) -> dict:
    return {"name": name, "image": IMAGE, **fields}


@pytest.fixture
def node(tmp_path):
    runtime = FakeRuntime(clock=clock, sandbox_takes=2.0)
    return Node(tmp_path, runtime, FakeStore())


def created(node: Node) -> list[str]:
    return [c for c in node.runtime.calls if c.startswith("create_container")]


def told(node: Node) -> list[str]:
    return [reason for reason, _ in node.events() if reason != "MissingClusterDNS"]


async def settled(node: Node, phase: str = "Running") -> None:
    await node.until(lambda: node.status("web").get("phase") == phase)


async def test_it_is_created_before_the_sandbox_is_ready_and_started_after(node):
    async with running(node):
        await node.apply("web", containers=[plain("a"), plain("b")])
        await node.until(lambda: created(node))
        assert not node.runtime.sandboxes
        await settled(node)
    assert node.runtime.calls[1:] == [
        "create_container a 0", "start_container a", "create_container b 0", "start_container b",
    ]  # fmt: skip


async def test_an_init_container_goes_first_and_the_others_wait_for_it(node):
    node.runtime.exits = {"i": [0]}
    async with running(node):
        await node.apply("web", initContainers=[plain("i")], containers=[plain("a")])
        await settled(node)
    assert created(node) == ["create_container i 0", "create_container a 0"]


async def test_what_is_told_is_told_in_its_turn(node):
    async with running(node):
        await node.apply("web", containers=[plain("a")])
        await node.until(lambda: created(node))
        await asyncio.sleep(0.5)
        assert told(node) == []
        assert "containerStatuses" not in node.status("web")
        await settled(node)
        await node.until(lambda: len(told(node)) == 3)
        assert told(node) == ["Pulled", "Created", "Started"]


async def test_a_sandbox_that_fails_takes_it_along_and_nothing_is_told_of_it(node):
    node.runtime.fail_sandbox = [BROKEN]
    async with running(node):
        await node.apply("web", containers=[plain("a")])
        await node.until(lambda: told(node))
        assert told(node) == ["FailedCreatePodSandBox"]
        assert not node.runtime.containers
        await settled(node)  # with the next sandbox
    assert created(node) == ["create_container a 0"] * 2


async def test_its_creation_fails_as_it_would_in_its_turn(node):
    node.runtime.fail_create = {"a": BROKEN}
    async with running(node):
        await node.apply("web", containers=[plain("a")])
        await node.until(lambda: told(node) == ["Pulled", "Failed"])
        assert ("Failed", f"Error: {BROKEN.message}") in node.events()
        await node.until(lambda: "containerStatuses" in node.status("web"))
        assert node.container("web")["state"]["waiting"]["reason"] == "CreateContainerError"
        assert created(node) == ["create_container a 0"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image": "other:1", "imagePullPolicy": "Never"}, "ErrImageNeverPull"),
        (
            {"env": [{"name": "x", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]},
            "CreateContainerConfigError",
        ),
    ],
)
async def test_what_can_not_be_done_ahead_is_said_in_its_turn(node, fields: dict, reason: str):
    async with running(node):
        await node.apply("web", containers=[{**plain("a"), **fields}])
        await node.until(lambda: "containerStatuses" in node.status("web"))
        await node.until(lambda: "reason" in node.container("web")["state"].get("waiting", {}))
        assert node.container("web")["state"]["waiting"]["reason"] == reason
        assert created(node) == []


async def test_a_pod_that_goes_meanwhile_never_starts_it(node):
    async with running(node):
        await node.apply("web", containers=[plain("a")])
        await node.until(lambda: created(node))
        await node.store.delete("pods", "default", "web", grace_period=0)
        await node.until(lambda: "remove_pod_sandbox" in node.runtime.calls)
        await node.until(lambda: not (node.runtime.sandboxes or node.runtime.containers))
    assert not any(call.startswith("start_container") for call in node.runtime.calls)


async def test_a_pod_with_one_pid_namespace_waits_for_its_first_process(node):
    async with running(node):
        await node.apply("web", containers=[plain("a")], shareProcessNamespace=True)
        await node.until(lambda: created(node))
        assert node.runtime.sandboxes
        await settled(node)
