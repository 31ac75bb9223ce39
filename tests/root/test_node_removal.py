"""What is gone when a pod's object is: all but blocks of the disk, whatever stands in the way. Excluded: crashes meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from minipod.cgroups.hierarchy import of_node
from minipod.spec.instance import Instance
from tests.node import Node, eventually, shell, sleeper

VOLUMES = [{"name": "v", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}}]
MOUNTS = [{"name": "v", "mountPath": "/v"}, {"name": "m", "mountPath": "/m"}]


def traces(instance: Instance, uid: str, container: str) -> list[str]:
    """Return what of a pod is where it was made: its cgroups, directories, records, logs, mounts."""
    cgroup = f"{instance.cgroup_root}/kubepods"
    found = [
        os.path.join(path, name)
        for point in of_node(instance.run_dir).mountpoints()
        for path, names, _ in os.walk(f"{point}/{cgroup}")
        for name in names
        if uid in name or name == container
    ]
    parents = [f"{d}/{kind}" for d in (instance.run_dir, instance.state_dir) for kind in ("pods", "containers")]  # fmt: skip
    for parent in (*parents, instance.log_dir, instance.log_link_dir):
        found += [
            f"{parent}/{name}" for name in os.listdir(parent) if uid in name or container in name
        ]
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return found + [line for line in f if uid in line]


def the_container(pod: dict) -> str:
    (status,) = pod["status"]["containerStatuses"]
    return status["containerID"].rpartition("/")[2]


def delete(node: Node, pod: dict) -> None:
    """DELETE it; return when a watch has told that it is gone."""
    path = node.client.path("pods", "default")
    since = {"resourceVersion": pod["metadata"]["resourceVersion"]}
    node.client.request("DELETE", f"{path}/{pod['metadata']['name']}")
    for event in node.client.watch(path, since):
        if event["type"] == "DELETED" and event["object"]["metadata"]["uid"] == pod["metadata"]["uid"]:  # fmt: skip
            return


def test_nothing_of_a_pod_is_left_when_its_object_is_gone_and_the_next_of_its_name_starts(
    node: Node, pods
) -> None:
    """With its port of the node. Excluded: its link, which the kernel takes along with its namespace in a moment."""
    pods.append("phoenix")
    ports = [{"containerPort": 80, "hostPort": 38081}]
    for _ in range(6):
        container = sleeper(volumeMounts=MOUNTS, ports=ports)
        pod = node.pod("phoenix", container, volumes=VOLUMES)
        uid, container_id = pod["metadata"]["uid"], the_container(pod)
        (sandbox,) = node.client.request("GET", f"/minipod/pods/{uid}")["sandboxes"]
        assert len(traces(node.instance, uid, container_id)) > 6
        assert sandbox["id"] in sandboxes(node.instance)
        delete(node, pod)
        assert traces(node.instance, uid, container_id) == []
        assert sandbox["id"] not in sandboxes(node.instance)


def sandboxes(instance: Instance) -> str:
    """Return all names of records, and who has an address."""
    leases = f"{instance.run_dir}/leases"
    owners = [os.readlink(f"{leases}/{name}") for name in os.listdir(leases)]
    return " ".join([*os.listdir(f"{instance.run_dir}/sandboxes"), *owners])


def test_what_was_removed_leaves_the_disk_in_a_moment(node: Node, pods) -> None:
    pods.append("large")
    write = "dd if=/dev/zero of=/v/data bs=1M count=8; dd if=/dev/zero of=/data bs=1M count=8; sleep 1000"
    pod = node.pod("large", shell(write, volumeMounts=MOUNTS), volumes=VOLUMES)
    delete(node, pod)
    trash = [
        f"{d}/trash/{kind}"
        for d in (node.instance.state_dir, node.instance.run_dir)
        for kind in ("pods", "containers")
    ]
    eventually(lambda: not any(os.listdir(d) for d in trash if os.path.isdir(d)))


def test_a_directory_that_can_be_neither_moved_nor_removed_keeps_no_pod(node: Node, pods) -> None:
    """What nobody owns is told of by doctor --leaks, and removed by the next daemon that can."""
    pods.append("stuck")
    pod = node.pod("stuck", sleeper(volumeMounts=MOUNTS[:1]), volumes=VOLUMES[:1])
    directory = f"{node.instance.state_dir}/pods/{pod['metadata']['uid']}"
    if subprocess.run(["chattr", "+i", directory], check=False).returncode:
        pytest.skip("a file system without chattr(1)")
    try:
        delete(node, pod)
        assert f"directory {directory}\n" in node.run("doctor", "--leaks", check=False).stdout
    finally:
        subprocess.run(["chattr", "-i", directory], check=True)
    pid = node.status()["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    eventually(node.is_up)
    eventually(lambda: not os.path.exists(directory))


def test_an_ended_container_keeps_its_log_and_no_cgroup(node: Node, pods) -> None:
    pods.append("done")
    pod = node.pod(
        "done", shell("echo said"), wait="jsonpath={.status.phase}=Succeeded", restartPolicy="Never"
    )
    container = the_container(pod)
    left = traces(node.instance, pod["metadata"]["uid"], container)
    assert not [path for path in left if path.startswith("/sys/fs/cgroup") and path.endswith(container)]  # fmt: skip
    node.await_log("done", "said")
