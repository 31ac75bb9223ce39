"""What the controllers do, and the verbs for administrators, with the real kubectl: namespaces, garbage, drain, top."""

from __future__ import annotations

import json

import pytest

from tests.node import eventually, shell


def pod(name: str, script: str = "sleep 1000") -> str:
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {"image": "busybox:1.36", "imagePullPolicy": "IfNotPresent", **shell(script)}
        ],
    }
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def test_a_namespace_goes_with_all_that_is_in_it(new_space):
    new_space("create", "configmap", "c")
    new_space("create", "-f", "-", text=pod("p"))
    new_space("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
    new_space("delete", "namespace", new_space.namespace, "--timeout=30s")
    assert "not found" in new_space.fails("get", "namespace", new_space.namespace)
    assert "not found" in new_space.fails("create", "configmap", "c")


def test_a_namespace_that_ends_takes_nothing_new(new_space):
    name = f"namespace/{new_space.namespace}"
    held = '{"metadata":{"finalizers":["example.com/hold"]}}'
    new_space("create", "configmap", "c")
    new_space("patch", "configmap", "c", "-p", held)
    new_space("delete", name, "--wait=false")
    new_space("wait", name, "--for=jsonpath={.status.phase}=Terminating", "--timeout=30s")
    assert "because it is being terminated" in new_space.fails("create", "configmap", "d")
    free = '{"metadata":{"finalizers":null}}'
    new_space("patch", "configmap", "c", "--type=merge", "-p", free)
    new_space("wait", name, "--for=delete", "--timeout=30s")


def test_some_namespaces_stay(newest):
    for name in ("default", "kube-system", "kube-public"):
        assert "may not be deleted" in newest.fails("delete", "namespace", name)


@pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
def test_dependents_go_as_the_owners_deletion_says(new_space, cascade):
    new_space("create", "configmap", "owner")
    uid = new_space.get("configmap", "owner")["metadata"]["uid"]
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": uid,
        "blockOwnerDeletion": True,
    }
    metadata = {"name": "dependent", "ownerReferences": [owner]}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    new_space("create", "-f", "-", text=json.dumps(secret))
    new_space("delete", "configmap", "owner", f"--cascade={cascade}")
    if cascade == "orphan":
        left = new_space.get("secret", "dependent")
        assert "ownerReferences" not in left["metadata"]
    else:
        new_space("wait", "secret/dependent", "--for=delete", "--timeout=30s")


def test_drain_evicts_the_pods(kubectl, space):
    if kubectl.version < (1, 22):
        pytest.skip("asks for policy/v1beta1, and deletes the pods without it")
    space("create", "-f", "-", text=pod("p"))
    space("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
    node = kubectl("get", "nodes", "-o", "name").strip()
    try:
        assert "use --force to override" in kubectl.fails("drain", node)  # nobody makes it again
        assert "pod/p evicted" in kubectl("drain", node, "--force", "--timeout=30s")
        assert "not found" in space.fails("get", "pod", "p")
    finally:
        kubectl("uncordon", node)


@pytest.fixture(scope="module")
def busy(node):
    """A container that computes all the time, of which its limit allows half a processor."""
    amounts = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    node.pod("busy", shell("while :; do :; done", resources=amounts))
    eventually(lambda: used(node, "busy") > 50e6, 30)  # the first window began before the pod
    yield "busy"
    node.delete("busy")


def used(node, pod: str) -> int:
    """Return what a pod uses of processors, in nanoseconds per second."""
    pods = node.client.request("GET", "/apis/metrics.k8s.io/v1beta1/pods")["items"]
    found = [
        c["usage"]["cpu"] for p in pods if p["metadata"]["name"] == pod for c in p["containers"]
    ]
    return sum(int(cpu.removesuffix("n")) for cpu in found)


def test_top_tells_what_is_used(kubectl, busy):
    pods, containers, node = kubectl.each(
        [f"top pod {busy} --no-headers", f"top pod {busy} --containers", "top node --no-headers"]
    )
    name, cpu, memory = pods.split()
    assert name == busy
    assert 10 < int(cpu.removesuffix("m")) < 1000
    assert memory.endswith("Mi")
    assert "app" in containers
    line = node.split()
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
