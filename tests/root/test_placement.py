"""Where pods run: RuntimeClasses with their overhead, taints that drive pods away, volumes that are for another node."""

from __future__ import annotations

import pytest

from tests.node import sleeper

NODES = "/api/v1/nodes"
CLASSES = "/apis/node.k8s.io/v1/runtimeclasses"
VOLUMES = "/api/v1/persistentvolumes"
CLAIMS = "/api/v1/namespaces/default/persistentvolumeclaims"
MERGE = "application/merge-patch+json"


@pytest.fixture
def made(node):
    """Paths of objects to delete when the test ends."""
    paths: list[str] = []
    yield paths
    for path in paths:
        node.client.request("DELETE", path)


def create(node, made: list[str], path: str, body: dict) -> None:
    node.client.request("POST", path, body=body)
    made.append(f"{path}/{body['metadata']['name']}")


def patch_node(node, body: dict) -> None:
    name = node.client.request("GET", NODES)["items"][0]["metadata"]["name"]
    node.client.open("PATCH", f"{NODES}/{name}", body=body, content_type=MERGE).read()


def runtime_class(name: str, **more) -> dict:
    return {
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name, **more,
    }  # fmt: skip


def test_the_overhead_of_a_class_is_the_pods_and_not_the_containers(node, pods, made) -> None:
    pods.append("heavy")
    overhead = {"podFixed": {"cpu": "100m", "memory": "16Mi"}}
    create(node, made, CLASSES, runtime_class("minipod", overhead=overhead))
    limits = {"limits": {"cpu": "100m", "memory": "32Mi"}}
    pod = node.pod("heavy", sleeper(resources=limits), runtimeClassName="minipod")
    assert pod["spec"]["overhead"] == overhead["podFixed"]
    assert pod["status"]["qosClass"] == "Guaranteed"
    container = node.containers(pod)["app"]["cgroup"]
    assert read_limit(container) == 32 << 20
    assert read_limit(container.rpartition("/")[0]) == 48 << 20


def read_limit(cgroup: str) -> int:
    for path in (
        f"/sys/fs/cgroup/{cgroup}/memory.max",
        f"/sys/fs/cgroup/memory/{cgroup}/memory.limit_in_bytes",
    ):
        try:
            with open(path, encoding="ascii") as f:
                return int(f.read())
        except FileNotFoundError:
            continue
    raise AssertionError(f"no memory limit of {cgroup}")


def test_a_handler_that_the_node_does_not_know_makes_no_sandbox(node, pods, made) -> None:
    pods.append("other")
    create(node, made, CLASSES, runtime_class("gvisor"))
    node.pod("other", sleeper(), runtimeClassName="gvisor", wait="")
    words = 'Failed to create pod sandbox: no runtime for "gvisor" is configured'
    node.await_event("other", words=words)
    assert "podIP" not in node.get("other")["status"]
    assert not [e for e in node.events("other") if e[1] in ("Pulled", "Created")]


def test_a_taint_drives_away_who_does_not_tolerate_it(node, pods) -> None:
    pods += ["goes", "stays"]
    taint = {"key": "maintenance", "effect": "NoExecute"}
    tolerant = [{"key": "maintenance", "operator": "Exists"}]
    node.pod("goes", sleeper())
    node.pod("stays", sleeper(), tolerations=tolerant)
    try:
        patch_node(node, {"spec": {"taints": [taint]}})
        node.wait("goes", "delete")
        assert node.get("stays")["status"]["phase"] == "Running"
    finally:
        patch_node(node, {"spec": {"taints": None}})


def test_a_volume_for_other_nodes_is_mounted_when_the_node_is_one_of_them(
    node, pods, made, tmp_path
) -> None:
    pods.append("data")
    term = {"matchExpressions": [{"key": "example.com/disk", "operator": "In", "values": ["ssd"]}]}
    volume = {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "elsewhere"},
        "spec": {
            "capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "local": {"path": str(tmp_path)}, "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
            "claimRef": {"namespace": "default", "name": "data"},
        },
    }  # fmt: skip
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": "elsewhere",
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }  # fmt: skip
    create(node, made, VOLUMES, volume)
    create(node, made, CLAIMS, claim)
    mounts = [{"name": "v", "mountPath": "/v"}]
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    node.pod("data", sleeper(volumeMounts=mounts), volumes=volumes, wait="")
    words = "PVC is not bound"
    node.await_event("data", words=words)
    patch_node(node, {"metadata": {"labels": {"example.com/disk": "ssd"}}})
    try:
        node.wait("data", "condition=Ready")
    finally:
        patch_node(node, {"metadata": {"labels": {"example.com/disk": None}}})
    node.delete("data")
