"""A program in a pod talks to the API: at the gateway's address, with the pod's own token and CA, as client-go finds them."""

from __future__ import annotations

import json

import pytest

from minipod.apiserver.auth import jwt


@pytest.fixture
def inside(new_space):
    """A pod with kubectl in it, in a namespace where its account may look."""
    account = f"--serviceaccount={new_space.namespace}:default"
    new_space("create", "rolebinding", "look", "--clusterrole=view", account)
    container = {
        "name": "app", "image": "busybox:1.36", "command": ["sleep", "1000"],
        "volumeMounts": [{"name": "kubectl", "mountPath": "/kubectl", "readOnly": True}],
    }  # fmt: skip
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "volumes": [{"name": "kubectl", "hostPath": {"path": new_space.path, "type": "File"}}],
        },
    }  # fmt: skip
    new_space("create", "-f", "-", text=json.dumps(pod))
    new_space("wait", "--for=condition=Ready", "pod/client", "--timeout=30s")
    return lambda *words: new_space.run("exec", "client", "--", *words, check=False)


def test_a_pod_reaches_the_api_as_its_service_account(node, new_space, inside):
    """kubectl inside finds everything by itself: environment, token, CA."""
    address = inside(
        "sh", "-c", "echo $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT"
    ).stdout.strip()
    assert address == f"{node.instance.gateways[0]}:{node.instance.api_port}"
    seen = inside("/kubectl", "auth", "whoami", "-o", "json")
    user = json.loads(seen.stdout)["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{new_space.namespace}:default"
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["client"]
    assert "pod/client" in inside("/kubectl", "get", "pods", "-o", "name").stdout
    assert "forbidden" in inside("/kubectl", "get", "secrets").stderr
    assert "forbidden" in inside("/kubectl", "get", "pods", "-n", "default").stderr


def test_a_pods_token_dies_with_it(node, new_space, inside):
    """Stolen, it is worth nothing when the pod is gone."""
    token = inside("cat", "/var/run/secrets/kubernetes.io/serviceaccount/token").stdout
    with open(f"{node.instance.state_dir}/pki/sa.key", "rb") as f:
        claims = jwt.verify(token, f.read())
    assert claims["kubernetes.io"]["pod"]["name"] == "client"
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token},
    }

    def status():
        told = new_space("create", "-f", "-", "-o", "json", text=json.dumps(review))
        return json.loads(told)["status"]

    assert status()["authenticated"]
    new_space("delete", "pod", "client")
    assert "is gone" in status()["error"]
