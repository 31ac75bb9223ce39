"""kubectl patch --subresource resize, by the newest kubectl: what is granted, what waits, and what is refused."""

from __future__ import annotations

import json

import pytest

from tests.node import shell


def patch(cpu: str, memory: str) -> str:
    amounts = {"cpu": cpu, "memory": memory}
    container = {"name": "app", "resources": {"requests": amounts, "limits": amounts}}
    return json.dumps({"spec": {"containers": [container]}})


@pytest.fixture
def pod(node):
    name = "resized"
    limits = {"cpu": "100m", "memory": "32Mi"}
    node.pod(name, shell("exec sleep 1000", resources={"requests": limits, "limits": limits}))
    yield name
    node.delete(name)


def test_kubectl_resizes_a_pod(newest, pod) -> None:
    if newest.version < (1, 32):
        pytest.skip("kubectl knows the subresource since 1.32")
    words = ("patch", "pod", pod, "--subresource", "resize", "--patch")
    newest(*words, patch("200m", "48Mi"))
    shown = "jsonpath={.status.containerStatuses[0].resources.limits.memory}=48Mi"
    newest("wait", f"pod/{pod}", f"--for={shown}", "--timeout=30s")
    status = newest.get("pod", pod)["status"]["containerStatuses"][0]
    assert status["allocatedResources"] == {"cpu": "200m", "memory": "48Mi"}
    assert status["restartCount"] == 0
    newest(*words, patch("9000", "48Mi"))
    newest("wait", f"pod/{pod}", "--for=condition=PodResizePending", "--timeout=30s")
    found = newest.get("pod", pod)["status"]["conditions"]
    told = next(c for c in found if c["type"] == "PodResizePending")
    assert told["reason"] == "Infeasible"
    assert "PodResizePending" in newest("describe", "pod", pod)
    image = json.dumps({"spec": {"containers": [{"name": "app", "image": "other:1"}]}})
    assert "only cpu and memory resources are mutable" in newest.fails(*words, image)
