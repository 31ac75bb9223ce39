"""What the API does about where and how a pod runs: RuntimeClasses, evictions, resizes that are refused, taints."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from minipod.apiserver import admission_runtime
from minipod.controllers.controller import Informers
from minipod.controllers.taints import TaintController
from tests.apiserver import Server
from tests.fakes.store import FakeStore

PODS = "/api/v1/namespaces/default/pods"
STRATEGIC = "application/strategic-merge-patch+json"
CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"


@pytest.fixture
async def server(tmp_path):
    async with Server(tmp_path) as running:
        yield running


def pod() -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "busybox:1.36"}]},
    }  # fmt: skip


def runtime_class(**more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "small"}, "handler": "minipod", **more,
    }  # fmt: skip


async def test_a_class_adds_overhead_selector_and_tolerations(server) -> None:
    tolerations = [{"key": "small", "operator": "Exists"}]
    scheduling = {"nodeSelector": {"size": "small"}, "tolerations": tolerations}
    overhead = {"podFixed": {"cpu": "50m", "memory": "8Mi"}}
    await server.call("POST", CLASSES, runtime_class(overhead=overhead, scheduling=scheduling))
    body = pod()
    body["spec"] |= {"runtimeClassName": "small", "nodeSelector": {"a": "b"}}
    made = (await server.call("POST", PODS, body)).json["spec"]
    assert made["overhead"] == {"cpu": "50m", "memory": "8Mi"}
    assert made["nodeSelector"] == {"a": "b", "size": "small"}
    assert made["tolerations"] == tolerations


async def test_a_class_that_is_not_there_is_refused(server) -> None:
    body = pod()
    body["spec"]["runtimeClassName"] = "none"
    told = await server.call("POST", PODS, body)
    assert told.status == 403
    words = 'pods "p" is forbidden: pod rejected: RuntimeClass "none" not found'
    assert told.json["message"] == words


@pytest.mark.parametrize(
    ("spec", "runtime", "words"),
    [
        ({"overhead": {"cpu": "1"}}, None, "Pod Overhead set without corresponding RuntimeClass defined Overhead"),
        (
            {"overhead": {"cpu": "1"}}, {"overhead": {"podFixed": {"cpu": "2"}}},
            "Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            {"nodeSelector": {"a": "b"}}, {"scheduling": {"nodeSelector": {"a": "c"}}},
            "conflict: runtimeClass.scheduling.nodeSelector[a] = c; pod.spec.nodeSelector[a] = b",
        ),
        ({"overhead": {"cpu": "1000m"}}, {"overhead": {"podFixed": {"cpu": "1"}}}, ""),
    ],
)  # fmt: skip
def test_what_contradicts_its_class_is_refused(spec: Any, runtime: Any, words: str) -> None:
    found = admission_runtime.merge({"spec": dict(spec)}, runtime)
    assert found == (f"pod rejected: {words}" if words else "")


async def test_an_eviction_says_so_in_a_condition(server) -> None:
    body = pod()
    body["metadata"]["finalizers"] = ["example.com/wait"]
    await server.call("POST", PODS, body)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    assert (await server.call("POST", f"{PODS}/p/eviction", eviction)).status == 201
    found = (await server.call("GET", f"{PODS}/p")).json
    assert found["metadata"]["deletionTimestamp"]
    (told,) = found["status"]["conditions"]
    assert told["lastTransitionTime"]
    assert (told["type"], told["status"], told["reason"], told["message"]) == (
        "DisruptionTarget", "True", "EvictionByEvictionAPI", "Eviction API: evicting",
    )  # fmt: skip


async def test_a_resize_of_an_init_container_is_refused(server) -> None:
    body = pod()
    init = {"name": "i", "image": "x", "resources": {"requests": {"cpu": "1"}}}
    body["spec"]["initContainers"] = [init]
    await server.call("POST", PODS, body)
    to = {"spec": {"initContainers": [{"name": "i", "resources": {"requests": {"cpu": "500m"}}}]}}
    told = await server.call("PATCH", f"{PODS}/p/resize", to, media=STRATEGIC)
    assert told.status == 422
    words = "spec.initContainers[0].resources: Forbidden: resources for non-sidecar init containers are immutable"
    assert words in told.json["message"]


async def test_a_resize_of_a_pod_with_limits_of_its_own_is_refused(server) -> None:
    body = pod()
    body["spec"]["resources"] = {"limits": {"cpu": "1"}}
    await server.call("POST", PODS, body)
    to = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]}}
    told = await server.call("PATCH", f"{PODS}/p/resize", to, media=STRATEGIC)
    assert "pods with pod-level resources cannot be resized" in told.json["message"]


# -- the taint controller

TAINT = {"key": "maintenance", "effect": "NoExecute"}
STAYS = [{"key": "maintenance", "operator": "Exists"}]
LEAVES = [{"key": "maintenance", "operator": "Exists", "tolerationSeconds": 60}]


async def add(store: FakeStore, name: str, tolerations: list[Any], **metadata: Any) -> None:
    spec = {"nodeName": "node", "tolerations": tolerations}
    meta = {"name": name, "namespace": "default", **metadata}
    await store.create("pods", "default", {"metadata": meta, "spec": spec, "status": {}})


@pytest.mark.looptime
async def test_pods_leave_a_tainted_node_when_their_tolerations_end() -> None:
    store = FakeStore()
    await store.create("nodes", "", {"metadata": {"name": "node"}, "spec": {}})
    mirror = {"annotations": {"kubernetes.io/config.mirror": "h"}}
    await add(store, "plain", [])
    await add(store, "stays", STAYS)
    await add(store, "leaves", LEAVES)
    await add(store, "static", [], **mirror)
    informers = Informers(store)
    controller = TaintController(store, informers)
    tasks = [asyncio.ensure_future(t) for t in (informers.run(), controller.run())]

    def names() -> set[str]:
        pods = [(n, o) for (kind, _, n), o in store.objects.items() if kind == "pods"]
        return {n for n, o in pods if not o["metadata"].get("deletionTimestamp")}

    def taint(*taints: Any) -> Any:
        return store.mutate("nodes", "", "node", lambda n: {**n, "spec": {"taints": list(taints)}})

    try:
        await asyncio.sleep(5)
        assert names() == {"plain", "stays", "leaves", "static"}
        await taint(TAINT)
        await asyncio.sleep(1)
        assert names() == {"stays", "leaves", "static"}
        (told,) = store.objects["pods", "default", "plain"]["status"]["conditions"]
        assert (told["type"], told["reason"]) == ("DisruptionTarget", "DeletionByTaintManager")
        await asyncio.sleep(30)
        await taint()  # the countdown ends...
        await asyncio.sleep(100)
        assert names() == {"stays", "leaves", "static"}
        await taint(TAINT)  # ...and begins anew
        await asyncio.sleep(59)
        assert names() == {"stays", "leaves", "static"}
        await asyncio.sleep(2)
        assert names() == {"stays", "static"}
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
