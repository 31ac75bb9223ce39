"""A node that is short of memory, or of disk: who goes, in which words, who is not let in, and that the node recovers.

The node is small: its state is on a file system of 96 MB of its own, and all of the machine's memory but 72 MiB is reserved, so that a
modest use trips the kubelet's thresholds. Not here: memory.available of the whole machine, which a test must not use up.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from minipod.kubelet.pressure import memory_available
from minipod.linux import mount
from minipod.linux.flags import UmountFlag
from tests.node import Node, shell
from tests.root.conftest import INSTANCE, await_nothing_left, snapshot

LITTLE = f"{INSTANCE}l"
DISK, MEMORY = 96 << 20, 72 << 20  # bytes of the disk, and for pods
THRESHOLD = 16  # MiB of the latter that must be free
NODE = "/api/v1/nodes"


def total_memory() -> int:
    with open("/proc/meminfo", encoding="ascii") as f:
        return int(f.readline().split()[1]) * 1024


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node with little room; see the module."""
    if memory_available() < 512 << 20:
        pytest.skip("the machine itself is short of memory")
    subprocess.run(["modprobe", "-q", "loop"], check=False)
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("no loop devices, and so no small disk")
    place = tmp_path_factory.mktemp("small")
    before = snapshot()
    with pytest.MonkeyPatch.context() as patch:
        settings = place / "minipod.toml"
        lines = (
            "eviction_interval = 0.1", "eviction_transition = 0.5", "eviction_disk = 50", "image_gc_min_age = 0.0",
            f'reserved_memory = "{total_memory() - MEMORY}"', f"eviction_memory = {THRESHOLD << 20}",
        )  # fmt: skip
        settings.write_text("\n".join((f"[instance.{LITTLE}]", *lines, "")))
        patch.setenv("MINIPOD_CONFIG", str(settings))
        made = Node(LITTLE)
        disk = place / "disk"
        with disk.open("wb") as file:
            file.truncate(DISK)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(disk)], check=True)
        made.run("reset", "-y")
        state_dir = made.instance.state_dir
        subprocess.run(["install", "-d", "-m", "0700", state_dir], check=True)
        subprocess.run(["mount", "-o", "loop", str(disk), state_dir], check=True)
        try:
            made.run("image", "build")
            made.run("up")
            yield made
        finally:
            mount.umount2(state_dir, UmountFlag.MNT_DETACH)
            made.run("reset", "-y")
    await_nothing_left(before, "mounts", "cgroups", "links")


def use(megabytes: int) -> str:
    """A script that holds so much memory."""
    return f"dd if=/dev/zero of=/dev/shm/x bs=1M count={megabytes} 2>/dev/null; exec sleep 1000"


def asks(memory: str) -> dict:
    return {"requests": {"memory": memory}}


def disruption(status: dict) -> dict:
    return next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")


def wait_for_node(node, condition: str) -> None:
    node.run(
        "wait",
        f"node/{node.instance.node_name or hostname(node)}",
        f"--for=condition={condition}",
        "--timeout=60s",
    )


def hostname(node) -> str:
    return node.client.request("GET", NODE)["items"][0]["metadata"]["name"]


@pytest.mark.smoke
def test_who_exceeds_its_request_goes_when_memory_is_short(node, pods) -> None:
    """Not the largest: `within` uses more, but keeps to its request."""
    pods += ["within", "above"]
    node.pod("within", shell(use(36), resources=asks("40Mi")))
    node.pod(
        "above", shell(use(26), resources=asks("4Mi")), wait="jsonpath={.status.reason}=Evicted"
    )
    status = node.get("above")["status"]
    assert status["phase"] == "Failed"
    assert status["message"].startswith(
        "The node was low on resource: memory. Threshold quantity: 16Mi, available: "
    )
    assert "Container app was using " in status["message"]
    assert "request is 4Mi, has larger consumption of memory. " in status["message"]
    found = disruption(status)
    assert (found["status"], found["reason"]) == ("True", "TerminationByKubelet")
    assert found["message"] == status["message"]
    assert node.get("within")["status"]["phase"] == "Running"
    wait_for_node(node, "MemoryPressure=False")  # half a second after the last sign of it


def test_a_node_short_of_memory_takes_no_best_effort_pod_and_ends_no_critical_one(
    node, pods
) -> None:
    pods += ["holder", "poor", "modest"]
    critical = {"priorityClassName": "system-cluster-critical"}
    node.pod("holder", shell(use(60)), **critical)
    wait_for_node(node, "MemoryPressure=True")
    node.pod("poor", shell("exec sleep 1000"), wait="jsonpath={.status.phase}=Failed")
    status = node.get("poor")["status"]
    assert (status["reason"], status["message"]) == (
        "Evicted",
        "Pod was rejected: The node had condition: [MemoryPressure]. ",
    )
    assert node.get("holder")["status"]["phase"] == "Running"
    node.delete("holder")
    wait_for_node(node, "MemoryPressure=False")
    node.pod("modest", shell("exec sleep 1000"))


@pytest.mark.parametrize("place", ["/v", "/tmp"], ids=["volume", "layer"])
def test_who_fills_the_disk_goes_when_it_is_short_and_nobody_else(node, pods, place: str) -> None:
    """What it held is given back with its end, not when somebody deletes it: else the next one would have to go."""
    pods += ["small", "full"]
    volume = {"name": "v", "emptyDir": {}}
    mounts = [{"name": "v", "mountPath": "/v"}]
    fill = f"mkdir -p {place}; dd if=/dev/zero of={place}/x bs=1M count={{}} 2>/dev/null; exec sleep 1000"
    node.pod("small", shell(fill.format(4), volumeMounts=mounts), volumes=[volume])
    node.pod(
        "full", shell(fill.format(48), volumeMounts=mounts), volumes=[volume], wait="jsonpath={.status.reason}=Evicted"
    )  # fmt: skip
    status = node.get("full")["status"]
    assert status["message"].startswith(
        "The node was low on resource: ephemeral-storage. Threshold quantity: "
    )
    assert disruption(status)["reason"] == "TerminationByKubelet"
    wait_for_node(node, "DiskPressure=False")
    assert node.get("small")["status"]["phase"] == "Running"
    ended = node.state("full")["terminated"]
    assert ended["exitCode"] == 137
