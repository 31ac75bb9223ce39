"""Volumes and environment from objects, on the real kernel: as root and not, at start and when the object changes."""

from __future__ import annotations

import base64
import json
import os
import socket
import stat
from pathlib import Path

import pytest

from tests.node import eventually, shell, sleeper


@pytest.fixture
def objects(node):
    """Apply objects; they are gone after the test."""
    made: list[tuple[str, str]] = []

    def apply(kind: str, name: str, **content: object) -> None:
        manifest = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **content}
        node.client.request("POST", f"/api/v1/namespaces/default/{kind.lower()}s", body=manifest)
        made.append((kind, name))

    yield apply
    for kind, name in made:
        path = f"/api/v1/namespaces/default/{kind.lower()}s/{name}"
        node.client.request("DELETE", path)


USERS = [{}, {"runAsUser": 1000, "runAsGroup": 1000}]


@pytest.mark.smoke
@pytest.mark.parametrize("context", USERS, ids=["root", "user"])
def test_every_kind_of_volume_is_read_by_who_may(node, pods, objects, context) -> None:
    pods.append("vols")
    objects("ConfigMap", "settings", data={"color": "blue\n", "size": "7"})
    objects("Secret", "keys", data={"token": base64.b64encode(b"s3cret").decode()})
    node.pod(
        "vols",
        sleeper(
            volumeMounts=[
                {"name": "cm", "mountPath": "/cm"}, {"name": "sec", "mountPath": "/sec"},
                {"name": "down", "mountPath": "/down"}, {"name": "all", "mountPath": "/all"},
                {"name": "empty", "mountPath": "/empty"}, {"name": "mem", "mountPath": "/mem"},
                {"name": "cm", "mountPath": "/one", "subPath": "color"},
            ],
            resources={"limits": {"memory": "64Mi"}},
        ),
        securityContext={**context, "fsGroup": 2000},
        volumes=[
            {"name": "cm", "configMap": {"name": "settings"}},
            {"name": "sec", "secret": {"secretName": "keys", "defaultMode": 0o400}},
            {"name": "down", "downwardAPI": {"items": [
                {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
                {"path": "memory", "resourceFieldRef": {"containerName": "app", "resource": "limits.memory"}},
            ]}},
            {"name": "all", "projected": {"sources": [
                {"configMap": {"name": "settings", "items": [{"key": "size", "path": "deep/size", "mode": 0o444}]}},
                {"secret": {"name": "keys"}}, {"configMap": {"name": "missing", "optional": True}},
            ]}},
            {"name": "empty", "emptyDir": {}},
            {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ],
    )  # fmt: skip
    files = (
        "/cm/color",
        "/cm/size",
        "/sec/token",
        "/down/name",
        "/down/memory",
        "/all/deep/size",
        "/all/token",
        "/one",
    )
    script = "; ".join(f"echo $(cat {f})" for f in files)
    read = node.exec("vols", "sh", "-c", script).split()
    assert read == ["blue", "7", "s3cret", "vols", str(64 << 20), "7", "s3cret", "blue"]
    assert node.exec("vols", "sh", "-c", "touch /empty/x /mem/x && stat -c %g /empty/x") == "2000\n"
    for place in ("/cm", "/sec", "/down", "/all"):
        done = node.run("exec", "vols", "--", "touch", f"{place}/x", check=False)
        assert "Read-only file system" in done.stderr
    full = node.run(
        "exec", "vols", "--", "dd", "if=/dev/zero", "of=/mem/big", "bs=1M", "count=2", check=False
    )
    assert "No space left" in full.stderr
    assert node.exec("vols", "stat", "-L", "-c", "%a", "/sec/token") == "440\n"


TYPES = (
    "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice",
)  # fmt: skip


def test_a_volume_at_etc_has_what_every_pod_has_there(node, pods) -> None:
    """As where the root is read-only and /etc must not be: without resolv.conf no name is found."""
    pods.append("above")
    app = sleeper(volumeMounts=[{"name": "etc", "mountPath": "/etc"}])
    node.pod("above", app, volumes=[{"name": "etc", "emptyDir": {}}])
    mounted = node.exec("above", "sh", "-c", "cut -d' ' -f2 /proc/mounts | grep ^/etc | sort")
    assert mounted.split() == ["/etc", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"]
    assert node.exec("above", "cat", "/etc/hostname") == "above\n"


@pytest.mark.parametrize("context", USERS, ids=["root", "user"])
def test_every_type_of_host_path_is_what_it_says(node, pods, tmp_path, context) -> None:
    """Modes are the host's: what is made is 0755 and 0644, root's; a user reads, and writes where the host lets everybody."""
    pods.append("paths")
    (tmp_path / "Directory").mkdir(mode=0o777)
    (tmp_path / "Directory").chmod(0o777)
    (tmp_path / "File").write_text("there")
    os.mknod(tmp_path / "CharDevice", stat.S_IFCHR | 0o644, os.makedev(1, 3))
    os.mknod(tmp_path / "BlockDevice", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "Socket"))
        node.pod(
            "paths",
            sleeper(volumeMounts=[{"name": f"v{i}", "mountPath": f"/h/{t or 'any'}"} for i, t in enumerate(TYPES)]),
            volumes=[
                {"name": f"v{i}", "hostPath": {"path": str(tmp_path / (t or "any")), "type": t}} for i, t in enumerate(TYPES)
            ],
            securityContext=context,
        )  # fmt: skip
    kinds = node.exec("paths", "sh", "-c", "cd /h; stat -c '%n %F %a' *").splitlines()
    assert {line.split()[0]: line.split(" ", 1)[1] for line in kinds} == {
        "any": "directory 755", "DirectoryOrCreate": "directory 755", "Directory": "directory 777",
        "FileOrCreate": "regular empty file 644", "File": "regular file 644", "Socket": "socket 755",
        "CharDevice": "character special file 644", "BlockDevice": "block special file 600",
    }  # fmt: skip
    assert node.exec("paths", "cat", "/h/File") == "there"
    node.exec("paths", "touch", "/h/Directory/mine")
    assert (tmp_path / "Directory" / "mine").stat().st_uid == context.get("runAsUser", 0)
    done = node.run("exec", "paths", "--", "touch", "/h/DirectoryOrCreate/x", check=False)
    assert ("Permission denied" in done.stderr) == bool(context)


def test_a_host_path_of_another_type_is_told(node, pods, tmp_path) -> None:
    pods.append("odd")
    volume = {"name": "v", "hostPath": {"path": str(tmp_path), "type": "File"}}
    node.pod(
        "odd", sleeper(volumeMounts=[{"name": "v", "mountPath": "/v"}]), volumes=[volume], wait=""
    )
    words = f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: {tmp_path} is not a file'
    node.await_event("odd", words=words)


def test_a_reader_never_sees_a_mix_of_old_and_new(node, pods, objects) -> None:
    """Excluded: two files opened one after the other, which may be of two versions."""
    pods.append("reader")
    objects("ConfigMap", "turns", data={"a": "0\n" * 2000, "b": "0\n" * 2000})
    loop = (
        "cd /cm; while :; do x=$(sort -u ..data/a); y=$(sort -u ..data/b);"
        ' [ $(echo "$x" | wc -l) = 1 ] && [ $(echo "$y" | wc -l) = 1 ] || echo MIX >> /tmp/bad;'
        " echo $x > /tmp/seen.new; mv /tmp/seen.new /tmp/seen; done"
    )
    node.pod(
        "reader", shell(loop, volumeMounts=[{"name": "cm", "mountPath": "/cm"}]),
        volumes=[{"name": "cm", "configMap": {"name": "turns"}}],
    )  # fmt: skip
    path = "/api/v1/namespaces/default/configmaps/turns"
    for turn in range(1, 30):
        text = f"{turn}\n" * 2000
        current = node.client.request("GET", path)
        node.client.request("PUT", path, body={**current, "data": {"a": text, "b": text}})
    eventually(lambda: node.exec("reader", "cat", "/tmp/seen") == "29\n")
    assert node.exec("reader", "sh", "-c", "cat /tmp/bad 2>/dev/null; true") == ""


def test_a_change_reaches_the_pod_long_before_the_next_minute(node, pods, objects) -> None:
    """The kubelet looks at volumes once a minute."""
    pods.append("soon")
    objects("ConfigMap", "soon", data={"k": "old"})
    made = node.pod(
        "soon", sleeper(volumeMounts=[{"name": "cm", "mountPath": "/cm"}]),
        volumes=[{"name": "cm", "configMap": {"name": "soon"}}],
    )  # fmt: skip
    file = f"{node.instance.state_dir}/pods/{made['metadata']['uid']}/volumes/kubernetes.io~configmap/cm/k"
    path = "/api/v1/namespaces/default/configmaps/soon"
    current = node.client.request("GET", path)
    node.client.request("PUT", path, body={**current, "data": {"k": "new"}})
    eventually(lambda: Path(file).read_text(encoding="ascii") == "new", 20)
    assert node.exec("soon", "cat", "/cm/k") == "new"


def test_a_pod_waits_for_its_objects_and_starts_when_they_come(node, pods, objects) -> None:
    pods += ["early", "earlyenv"]
    volume = {"name": "cm", "configMap": {"name": "late"}}
    mounted = sleeper(volumeMounts=[{"name": "cm", "mountPath": "/cm"}])
    node.pod("early", mounted, wait="", volumes=[volume])
    variable = {"name": "K", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "k"}}}
    reason = (
        "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError"
    )
    node.pod("earlyenv", sleeper(env=[variable]), wait=reason)
    assert node.state("earlyenv")["waiting"]["message"] == 'configmap "late" not found'
    words = 'MountVolume.SetUp failed for volume "cm" : configmap "late" not found'
    node.await_event("early", words=words)
    objects("ConfigMap", "late", data={"k": "now"})
    for pod in ("early", "earlyenv"):
        node.wait(pod, "condition=Ready")
    assert node.exec("earlyenv", "sh", "-c", "echo $K") == "now\n"


def test_env_from_objects_and_fields(node, pods, objects) -> None:
    pods.append("env")
    objects("ConfigMap", "vars", data={"A": "cm", "B": "cm", "1x": "no"})
    objects("Secret", "hidden", data={"B": base64.b64encode(b"secret").decode()})
    node.pod(
        "env",
        {
            "name": "app", "command": ["sh", "-c", "echo 'args $(C)'; exec sleep 1000"],
            "envFrom": [
                {"configMapRef": {"name": "vars"}}, {"secretRef": {"name": "hidden"}},
                {"prefix": "P_", "configMapRef": {"name": "vars"}}, {"configMapRef": {"name": "no", "optional": True}},
            ],
            "env": [
                {"name": "C", "value": "$(A)/$(B)/$(KUBERNETES_SERVICE_HOST)/$$(A)"},
                {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "B"}}},
                {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "vars", "key": "no", "optional": True}}},
            ],
        },
    )  # fmt: skip
    found = dict(line.split("=", 1) for line in node.exec("env", "env").splitlines())
    gateway = node.instance.gateways[0]
    assert (found["A"], found["B"], found["P_1x"], found["NAME"], found["KEY"]) == (
        "cm",
        "secret",
        "no",
        "env",
        "secret",
    )
    assert found["C"] == f"cm/secret/{gateway}/$(A)"
    assert found["KUBERNETES_SERVICE_PORT"] == str(node.instance.api_port)
    assert "NONE" not in found
    assert "1x" not in found
    node.await_log("env", f"args cm/secret/{gateway}/$(A)")
    node.await_event("env", words="Keys [1x] from the EnvFrom configMap default/vars were skipped")


def test_variables_from_a_file_that_an_init_container_wrote(node, pods) -> None:
    pods.append("envfile")
    mount = {"name": "v", "mountPath": "/v"}
    node.pod(
        "envfile",
        sleeper(env=[{"name": "X", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "e", "key": "X"}}}]),
        initContainers=[{**shell("echo X=written > /v/e", "init", volumeMounts=[mount]), "image": "busybox:1.36"}],
        volumes=[{"name": "v", "emptyDir": {}}],
    )  # fmt: skip
    assert node.exec("envfile", "sh", "-c", "echo $X") == "written\n"


def test_a_device_in_the_place_of_a_file_of_variables_is_not_read(node, pods) -> None:
    """It would be by root, with the node's devices: a disk, which the container itself may not open."""
    pods.append("device")
    mount = [{"name": "v", "mountPath": "/v"}]
    init = shell("mknod /v/vars c 1 5", "init", image="busybox:1.36", volumeMounts=mount)
    ref = {"fileKeyRef": {"volumeName": "v", "path": "vars", "key": "A"}}
    app = sleeper(env=[{"name": "A", "valueFrom": ref}])
    volumes = [{"name": "v", "emptyDir": {}}]
    node.pod("device", app, initContainers=[init], volumes=volumes, wait="")
    words = "file vars of volume v: not a plain file"
    assert words in node.await_event("device", reason="Failed", words=words)


def test_labels_and_annotations_follow_in_a_volume(node, pods) -> None:
    pods.append("labels")
    volume = {
        "name": "d",
        "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]},
    }
    node.pod("labels", sleeper(volumeMounts=[{"name": "d", "mountPath": "/d"}]), volumes=[volume])
    path = "/api/v1/namespaces/default/pods/labels"
    patch = {"metadata": {"labels": {"b": "two", "a": "one"}}}
    node.client.open("PATCH", path, body=patch, content_type="application/merge-patch+json").read()
    eventually(lambda: node.exec("labels", "cat", "/d/l") == 'a="one"\nb="two"')


def test_nothing_of_a_pods_volumes_is_left(node, pods, objects) -> None:
    pods.append("left")
    objects("Secret", "left", data={"k": base64.b64encode(b"x").decode()})
    made = node.pod(
        "left", sleeper(volumeMounts=[{"name": "s", "mountPath": "/s"}]),
        volumes=[{"name": "s", "secret": {"secretName": "left"}}],
    )  # fmt: skip
    uid = made["metadata"]["uid"]
    volumes = os.listdir(f"{node.instance.run_dir}/pods/{uid}")
    assert {v.rsplit("-", 1)[0] for v in volumes} == {"s", "kube-api-access"}
    node.run("delete", "pod", "left", "--grace-period=1")
    assert not os.path.exists(f"{node.instance.run_dir}/pods/{uid}")
    assert not os.path.exists(f"{node.instance.state_dir}/pods/{uid}")
    assert json.loads(node.run("get", "pods", "-o", "json").stdout)["items"] == []
