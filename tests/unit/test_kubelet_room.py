"""Pods and the node's room: resizes that wait, that can never be, that survive a restart; pods that make room; unwanted nodes."""

from __future__ import annotations

import os

import pytest

from tests.fakes.kubelet import Node, clock, running
from tests.fakes.runtime import FakeRuntime
from tests.fakes.store import FakeStore

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]

ALL = (os.cpu_count() or 1) * 1000  # thousandths of a cpu


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path, FakeRuntime(clock=clock), FakeStore())


def app(cpu: int, memory: str = "16Mi") -> dict:
    amounts = {"cpu": f"{cpu}m", "memory": memory}
    return {
        "name": "app",
        "image": "busybox:1.36",
        "resources": {"limits": amounts, "requests": amounts},
    }


async def resize(node: Node, name: str, cpu: int, memory: str = "16Mi") -> None:
    def change(raw):
        raw["spec"]["containers"] = [app(cpu, memory)]
        return raw

    await node.store.mutate("pods", "default", name, change)


def condition(node: Node, name: str, kind: str) -> dict:
    found = node.status(name).get("conditions") or []
    return next((c for c in found if c["type"] == kind), {})


def is_running(node: Node, name: str) -> bool:
    return node.status(name).get("phase") == "Running"


async def start(node: Node, name: str, cpu: int, **spec) -> None:
    await node.apply(name, containers=[app(cpu)], **spec)
    await node.until(lambda: is_running(node, name))


async def test_a_resize_is_granted_and_shown(node):
    async with running(node):
        await start(node, "web", 100)
        shown = node.container("web")
        assert shown["allocatedResources"] == {"cpu": "100m", "memory": "16Mi"}
        assert shown["resources"]["limits"] == {"cpu": "100m", "memory": "16Mi"}
        await resize(node, "web", 200, "32Mi")
        await node.until(
            lambda: node.container("web")["resources"]["limits"]["memory"] == "32Mi", 5
        )
        assert node.container("web")["allocatedResources"] == {"cpu": "200m", "memory": "32Mi"}
        assert "resize app" in node.runtime.calls
        assert not condition(node, "web", "PodResizePending")
        assert not condition(node, "web", "PodResizeInProgress")
        assert node.container("web")["restartCount"] == 0


async def test_a_resize_waits_until_another_pod_is_gone(node):
    async with running(node):
        await start(node, "web", 100)
        await start(node, "other", ALL - 200)
        await resize(node, "web", 300)
        await node.until(lambda: condition(node, "web", "PodResizePending"), 5)
        told = condition(node, "web", "PodResizePending")
        assert (told["status"], told["reason"]) == ("True", "Deferred")
        words = f"Node didn't have enough resource: cpu, requested: 300, used: {ALL - 200}, capacity: {ALL}"
        assert told["message"] == words
        assert node.container("web")["allocatedResources"]["cpu"] == "100m"
        await node.store.delete("pods", "default", "other", grace_period=1)
        await node.until(lambda: node.container("web")["allocatedResources"]["cpu"] == "300m", 10)
        assert not condition(node, "web", "PodResizePending")
        wanted = ["ResizeDeferred", "ResizeCompleted"]
        await node.until(
            lambda: [r for r, _ in node.events() if r.startswith("Resize")] == wanted, 5
        )


async def test_more_than_the_node_has_is_infeasible(node):
    async with running(node):
        await start(node, "web", 100)
        await resize(node, "web", ALL + 1)
        await node.until(lambda: condition(node, "web", "PodResizePending"), 5)
        told = condition(node, "web", "PodResizePending")
        assert told["reason"] == "Infeasible"
        words = f"Node didn't have enough capacity: cpu, requested: {ALL + 1}, capacity: {ALL}"
        assert told["message"] == words
        assert "resize app" not in node.runtime.calls
        await resize(node, "web", 100)  # taken back
        await node.until(lambda: not condition(node, "web", "PodResizePending"), 5)


async def test_what_starts_again_meanwhile_gets_what_was_granted_also_from_another_kubelet(
    node, tmp_path
):
    async with running(node):
        await start(node, "web", 100)
        await resize(node, "web", ALL + 1)
        await node.until(lambda: condition(node, "web", "PodResizePending"), 5)
        node.runtime._exit(node.runtime.running("app").id, 1)
        await node.until(lambda: node.container("web")["restartCount"] == 1)
        assert node.runtime.running("app").spec.resources.cpu_quota == 10_000
    second = Node(tmp_path, node.runtime, node.store)
    async with running(second):
        await second.until(lambda: condition(second, "web", "PodResizePending"), 5)
        node.runtime._exit(node.runtime.running("app").id, 1)
        await second.until(lambda: second.container("web")["restartCount"] == 2)
        assert node.runtime.running("app").spec.resources.cpu_quota == 10_000


async def test_a_critical_pod_makes_others_go_and_takes_their_room(node):
    async with running(node):
        await start(node, "small", 100)
        await start(node, "large", ALL - 200, terminationGracePeriodSeconds=20)
        node.runtime.ignores.add("app")
        began = clock()
        await start(node, "vital", ALL - 300, priority=2_000_000_000)
        assert clock() - began >= 20  # not before the other has had its grace period
        status = node.status("large")
        assert (status["phase"], status["reason"], status["message"]) == (
            "Failed",
            "Preempting",
            "Preempted in order to admit critical pod",
        )
        told = condition(node, "large", "DisruptionTarget")
        assert (told["status"], told["reason"]) == ("True", "TerminationByKubelet")
        assert told["message"] == "Pod was preempted by Kubelet to accommodate a critical pod."
        assert is_running(node, "small")


async def test_a_critical_pod_for_which_no_room_can_be_made_is_refused(node):
    async with running(node):
        await start(node, "vital", ALL - 100, priority=2_000_000_000)
        await node.apply("too", containers=[app(200)], priority=2_000_000_000)
        await node.until(lambda: node.status("too").get("phase") == "Failed", 5)
        assert node.status("too")["reason"] == "UnexpectedAdmissionError"
        words = "no set of running pods found to reclaim resources: [(res: cpu, q: 100), ]"
        assert node.status("too")["message"].endswith(words)
        assert is_running(node, "vital")


async def test_a_pod_that_wants_another_node_fails_at_once(node):
    async with running(node):
        await node.apply("web", nodeSelector={"disk": "ssd"})
        await node.until(lambda: node.status("web").get("phase") == "Failed", 5)
        assert node.status("web")["reason"] == "NodeAffinity"

        def label(raw):
            raw["metadata"]["labels"]["disk"] = "ssd"
            return raw

        await node.store.mutate("nodes", "", "node", label)
        await node.apply("again", nodeSelector={"disk": "ssd"})
        await node.until(lambda: is_running(node, "again"), 5)
