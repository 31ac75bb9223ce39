"""A manifest that uses every supported field once runs; and it does use every one."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
import yaml

from minipod.api.schema import types

HERE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# Fields that no manifest for an empty node can hold.
ELSEWHERE = {
    "Pod": {"status"},
    "Metadata": {
        "generateName", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
        "generation", "managedFields", "selfLink",
    },
    "PodSpec": {"ephemeralContainers", "nodeName", "priority"},  # added later; the node's name; its class gives it
    "AppArmorProfile": {"localhostProfile"},  # wants a kernel with AppArmor
    "GrpcAction": {"port", "service"}, "Probe": {"grpc"},  # wants a server that speaks it: tests/root/test_node_probes.py
    "ReadinessGate": {"conditionType"},  # somebody else must set it
}  # fmt: skip
SKIPPED = ("EphemeralContainer", "EphemeralResources")


def documents() -> list[dict[str, Any]]:
    with open(f"{HERE}/examples/everything.yaml", encoding="utf-8") as f:
        return list(yaml.safe_load_all(f))


def used(value: Any, kind: str, found: dict[str, set[str]]) -> None:
    """Note which fields of which types *value* uses."""
    if kind.startswith("[]"):
        for item in value or []:
            used(item, kind[2:], found)
    elif kind in types() and isinstance(value, dict):
        found.setdefault(kind, set()).update(value)
        for name, item in value.items():
            used(item, types()[kind].fields.get(name, "any"), found)


def test_the_manifest_uses_every_supported_field() -> None:
    found: dict[str, set[str]] = {}
    for document in documents():
        if document["kind"] == "Pod":
            used(document, "Pod", found)
    missing = {
        f"{kind}.{field}"
        for kind, entry in types().items()
        if kind not in SKIPPED
        for field in entry.fields.keys() - found.get(kind, set()) - ELSEWHERE.get(kind, set())
    }
    assert missing == set()


def test_the_manifest_runs(node, pods) -> None:
    paths = {
        "ConfigMap": "configmaps", "Secret": "secrets", "PersistentVolumeClaim": "persistentvolumeclaims", "Pod": "pods",
    }  # fmt: skip
    os.makedirs(node.instance.seccomp_dir, exist_ok=True)
    with open(f"{node.instance.seccomp_dir}/audit.json", "w", encoding="utf-8") as f:
        json.dump({"defaultAction": "SCMP_ACT_LOG"}, f)
    listed = documents()
    made = []
    for document in sorted(listed, key=lambda d: d["kind"] == "Pod"):
        base = f"/api/v1/namespaces/default/{paths.get(document['kind'], '')}"
        if document["kind"] == "RuntimeClass":
            base = "/apis/node.k8s.io/v1/runtimeclasses"
        node.client.request("POST", base, body=document)
        made.append(f"{base}/{document['metadata']['name']}")
        if document["kind"] == "Pod":
            pods.append(document["metadata"]["name"])
    try:
        for pod in pods:
            node.wait(pod, "condition=Ready")
        script = (
            "echo $PLAIN $POD $CPU $COLOR $TOKEN $WRITTEN $CM_color; cat /settings/color; echo; cat /keys/deep/token; echo;"
            " id -G; hostname; wc -c < /all/vault-token; touch /data/x /own/x /mine/x && echo written;"
            " cat /var/run/secrets/kubernetes.io/serviceaccount/namespace"
        )
        lines = node.exec("everything", "sh", "-c", script, container="web").splitlines()
        assert lines[0] == "$(POD) everything 500 blue s3cret written blue"
        assert lines[1:3] == ["blue", "s3cret"]
        assert set(lines[3].split()) == {"1000", "2000", "3000"}
        assert lines[4] == "every.thing.default.svc.cluster.local"
        assert int(lines[5]) > 100
        assert lines[6:] == ["written", "default"]
        assert node.exec("renamed", "hostname") == "other.example.org\n"
        assert node.exec("of-the-host", "hostname").strip() == os.uname().nodename
    finally:
        node.delete(*pods)
        for path in made:
            if "/pods/" not in path:
                node.client.request("DELETE", path)


@pytest.mark.parametrize(
    "document", [d for d in documents() if d["kind"] == "Pod"], ids=lambda d: d["metadata"]["name"]
)
def test_what_runs_is_what_was_asked_for(document: dict[str, Any]) -> None:
    """Excluded: what the API adds. No field of the manifest is one that the table does not know."""
    from minipod.api.validation import validate_pod

    assert validate_pod(document) == []
