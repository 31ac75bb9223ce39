"""What the controllers do, and the verbs for administrators, with the real kubectl: namespaces, garbage, drain, top."""

from __future__ import annotations

import json
import time

import pytest

from tests.node import shell


@pytest.fixture
def space(kubectl):
    """A namespace of the test's own."""
    name = f"cluster-{kubectl.version[1]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl.run("delete", "namespace", name, "--ignore-not-found")


def pod(name: str, namespace: str, script: str = "sleep 1000") -> str:
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {"image": "busybox:1.36", "imagePullPolicy": "IfNotPresent", **shell(script)}
        ],
    }
    metadata = {"name": name, "namespace": namespace}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


@pytest.fixture
def new_space(newest):
    """The same for tests of what the server does."""
    newest("create", "namespace", "cluster")
    yield "cluster"
    newest.run("delete", "namespace", "cluster", "--ignore-not-found")


def test_a_namespace_goes_with_all_that_is_in_it(newest, new_space):
    newest("create", "configmap", "c", "-n", new_space)
    newest("create", "-f", "-", text=pod("p", new_space))
    newest("wait", "--for=condition=Ready", "pod/p", "-n", new_space, "--timeout=30s")
    newest("delete", "namespace", new_space, "--timeout=30s")
    assert "not found" in newest.fails("get", "namespace", new_space)
    assert "not found" in newest.fails("create", "configmap", "c", "-n", new_space)


def test_a_namespace_that_ends_takes_nothing_new(newest, new_space):
    held = '{"metadata":{"finalizers":["example.com/hold"]}}'
    newest("create", "configmap", "c", "-n", new_space)
    newest("patch", "configmap", "c", "-p", held, "-n", new_space)
    newest("delete", "namespace", new_space, "--wait=false")
    newest(
        "wait",
        f"namespace/{new_space}",
        "--for=jsonpath={.status.phase}=Terminating",
        "--timeout=10s",
    )
    assert "because it is being terminated" in newest.fails(
        "create", "configmap", "d", "-n", new_space
    )
    newest(
        "patch",
        "configmap",
        "c",
        "--type=merge",
        "-p",
        '{"metadata":{"finalizers":null}}',
        "-n",
        new_space,
    )
    newest("wait", f"namespace/{new_space}", "--for=delete", "--timeout=10s")


def test_some_namespaces_stay(newest):
    for name in ("default", "kube-system", "kube-public"):
        assert "may not be deleted" in newest.fails("delete", "namespace", name)


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_dependents_go_as_the_owners_deletion_says(newest, new_space, cascade):
    newest("create", "configmap", "owner", "-n", new_space)
    uid = newest.get("configmap", "owner", "-n", new_space)["metadata"]["uid"]
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": uid,
        "blockOwnerDeletion": True,
    }
    metadata = {"name": "dependent", "namespace": new_space, "ownerReferences": [owner]}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    newest("create", "-f", "-", text=json.dumps(secret))
    newest("delete", "configmap", "owner", f"--cascade={cascade}", "-n", new_space)
    if cascade == "orphan":
        left = newest.get("secret", "dependent", "-n", new_space)
        assert "ownerReferences" not in left["metadata"]
    else:
        newest("wait", "secret/dependent", "--for=delete", "--timeout=10s", "-n", new_space)


def test_cordon_and_taint_mark_the_node(kubectl):
    (node,) = (n["metadata"]["name"] for n in kubectl.get("nodes")["items"])
    kubectl("cordon", node)
    assert kubectl.get("node", node)["spec"]["unschedulable"] is True
    assert "SchedulingDisabled" in kubectl("get", "node", node)
    kubectl("uncordon", node)
    assert not kubectl.get("node", node)["spec"].get("unschedulable")
    kubectl("taint", "node", node, "k=v:PreferNoSchedule")
    taints = kubectl.get("node", node)["spec"]["taints"]
    assert {"key": "k", "value": "v", "effect": "PreferNoSchedule"} in taints
    kubectl("taint", "node", node, "k-")
    assert not kubectl.get("node", node)["spec"].get("taints")


def test_drain_evicts_the_pods(kubectl, space):
    if kubectl.version < (1, 22):
        pytest.skip("asks for policy/v1beta1, and deletes the pods without it")
    kubectl("create", "-f", "-", text=pod("p", space))
    kubectl("wait", "--for=condition=Ready", "pod/p", "-n", space, "--timeout=30s")
    (node,) = (n["metadata"]["name"] for n in kubectl.get("nodes")["items"])
    try:
        refused = kubectl.fails("drain", node)
        assert "use --force to override" in refused  # nobody would make it again
        told = kubectl("drain", node, "--force", "--timeout=30s")
        assert "pod/p evicted" in told
        assert "not found" in kubectl.fails("get", "pod", "p", "-n", space)
    finally:
        kubectl("uncordon", node)


def test_top_tells_what_is_used(kubectl, space):
    """A container that computes all the time uses about what its limit allows: half a processor."""
    busy = json.loads(pod("busy", space, "while :; do :; done"))
    busy["spec"]["containers"][0]["resources"] = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    kubectl("create", "-f", "-", text=json.dumps(busy))
    kubectl("wait", "--for=condition=Ready", "pod/busy", "-n", space, "--timeout=30s")
    kubectl("top", "pod", "-n", space)
    time.sleep(1.0)  # a window of its own: the first one began before the pod
    name, cpu, memory = kubectl("top", "pod", "busy", "-n", space, "--no-headers").split()
    assert name == "busy"
    assert 50 < int(cpu.removesuffix("m")) < 700
    assert memory.endswith("Mi")
    assert "app" in kubectl("top", "pod", "busy", "--containers", "-n", space)
    line = kubectl("top", "node", "--no-headers").split()
    assert len(line) == 5
    assert line[1].endswith("m")


def test_the_node_says_how_it_is(newest):
    """`describe node` has everything that kubectl looks for: conditions, capacity, addresses, the lease."""
    (node,) = newest.get("nodes")["items"]
    conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
    assert conditions.pop("Ready") == "True"
    assert set(conditions) == {"MemoryPressure", "DiskPressure", "PIDPressure"}
    assert set(node["status"]["capacity"]) >= {"cpu", "memory", "pods", "ephemeral-storage"}
    assert any(a["type"] == "InternalIP" for a in node["status"]["addresses"])
    name = node["metadata"]["name"]
    lease = newest.get("lease", name, "-n", "kube-node-lease")
    assert lease["spec"]["leaseDurationSeconds"] == 40
    shown = newest("describe", "node", name)
    assert "HolderIdentity:  " + name in shown
    assert "KubeletReady" in shown
