"""Claims on a node: bound to a directory or to a volume made by hand, kept while used, taken back afterwards. Image volumes."""

from __future__ import annotations

import os

import pytest

from tests.node import eventually, shell, sleeper

API = "/api/v1/namespaces/default/persistentvolumeclaims"


def claim(name: str, **spec: object) -> dict[str, object]:
    wanted = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Mi"}},
        **spec,
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": wanted,
    }


def mounting(name: str, path: str = "/data") -> dict[str, object]:
    return {"volumeMounts": [{"name": name, "mountPath": path}]}


def names(node, resource: str) -> set[str]:
    path = f"/api/v1/{resource}" if resource == "persistentvolumes" else API
    return {item["metadata"]["name"] for item in node.client.request("GET", path)["items"]}


@pytest.mark.parametrize("context", [{}, {"runAsUser": 1000}], ids=["root", "user"])
def test_a_claim_of_the_default_class_gets_a_directory_that_outlives_pods(
    node, pods, context
) -> None:
    pods += ["first", "second"]
    node.client.request("POST", API, body=claim("data"))
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    node.pod("first", sleeper(**mounting("v")), volumes=[volume], securityContext=context)
    node.exec("first", "sh", "-c", "echo kept > /data/file")
    found = node.client.request("GET", f"{API}/data")
    assert found["status"]["phase"] == "Bound"
    node.run("delete", "pod", "first", "--grace-period=1")
    node.pod("second", sleeper(**mounting("v")), volumes=[volume], securityContext=context)
    assert node.exec("second", "cat", "/data/file") == "kept\n"
    node.client.request("DELETE", f"{API}/data")
    assert "data" in names(node, "persistentvolumeclaims")  # a pod uses it
    node.run("delete", "pod", "second", "--grace-period=1")
    eventually(lambda: not names(node, "persistentvolumeclaims"))
    eventually(lambda: not names(node, "persistentvolumes"))
    eventually(lambda: not os.listdir(f"{node.instance.state_dir}/claims"))


def test_a_claim_takes_the_smallest_volume_that_fits(node, pods, tmp_path) -> None:
    pods.append("pv")
    for name, size in (("big", "5Gi"), ("small", "2Gi"), ("tiny", "1Ki")):
        (tmp_path / name).mkdir()
        spec = {
            "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "hand",
            "hostPath": {"path": str(tmp_path / name)},
        }  # fmt: skip
        body = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": spec,
        }
        node.client.request("POST", "/api/v1/persistentvolumes", body=body)
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "hand"}}
    node.pod("pv", sleeper(**mounting("v")), volumes=[volume], wait="")
    node.await_event("pv", words='persistentvolumeclaim "hand" not found')
    wanted = {"requests": {"storage": "1Gi"}}
    node.client.request("POST", API, body=claim("hand", storageClassName="hand", resources=wanted))
    node.wait("pv", "condition=Ready")
    node.exec("pv", "touch", "/data/here")
    assert os.listdir(tmp_path / "small") == ["here"]
    node.run("delete", "pod", "pv", "--grace-period=1")
    node.client.request("DELETE", f"{API}/hand")

    def released() -> bool:
        found = node.client.request("GET", "/api/v1/persistentvolumes/small")
        return found["status"]["phase"] == "Released"

    eventually(released)
    for name in ("big", "small", "tiny"):
        node.client.request("DELETE", f"/api/v1/persistentvolumes/{name}")
    assert os.listdir(tmp_path / "small") == ["here"]


def test_an_ephemeral_volume_lives_and_dies_with_its_pod(node, pods) -> None:
    pods.append("eph")
    template = {"spec": claim("x")["spec"]}
    volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}
    node.pod("eph", sleeper(**mounting("scratch")), volumes=[volume])
    node.exec("eph", "touch", "/data/x")
    assert names(node, "persistentvolumeclaims") == {"eph-scratch"}
    node.run("delete", "pod", "eph", "--grace-period=1")
    eventually(lambda: not names(node, "persistentvolumeclaims") | names(node, "persistentvolumes"))


def test_an_image_is_a_read_only_volume(node, pods) -> None:
    pods += ["img", "noimg"]
    volume = {
        "name": "v",
        "image": {"reference": "registry.k8s.io/pause:3.9", "pullPolicy": "IfNotPresent"},
    }
    mounts = [
        {"name": "v", "mountPath": "/image"}, {"name": "v", "mountPath": "/bins", "subPath": "bin"},
    ]  # fmt: skip
    node.pod("img", sleeper(volumeMounts=mounts), volumes=[volume])
    assert "pause" in node.exec("img", "ls", "/image").split()
    assert "busybox" in node.exec("img", "ls", "/bins").split()
    done = node.run("exec", "img", "--", "touch", "/image/x", check=False)
    assert "Read-only file system" in done.stderr
    missing = {"name": "v", "image": {"reference": "nowhere.invalid/x:1", "pullPolicy": "Never"}}
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImageNeverPull"
    node.pod("noimg", shell("true", volumeMounts=mounts[:1]), volumes=[missing], wait=reason)
