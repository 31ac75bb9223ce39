"""Limits that hold while a pod runs: resized in place, of the pod as a whole, of its disk."""

from __future__ import annotations

import os

import pytest

from tests.node import eventually, shell, sleeper

MERGE = "application/strategic-merge-patch+json"


def resize(node, pod: str, **limits: str) -> None:
    body = {
        "spec": {
            "containers": [{"name": "app", "resources": {"limits": limits, "requests": limits}}]
        }
    }
    path = f"/api/v1/namespaces/default/pods/{pod}/resize"
    node.client.open("PATCH", path, body=body, content_type=MERGE).read()


def amounts(node, pod: str) -> list[str]:
    read = (
        "cd /sys/fs/cgroup; if [ -f cpu.max ]; then cut -d' ' -f1 cpu.max; cat memory.max;"
        " else cat cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes; fi"
    )
    return node.exec(pod, "sh", "-c", read).split()


def await_condition(node, pod: str, kind: str, reason: str) -> dict:
    """Wait until the pod has that condition for that reason; return it."""

    def held() -> dict | None:
        listed = node.get(pod)["status"]["conditions"]
        return next((c for c in listed if (c["type"], c.get("reason")) == (kind, reason)), None)

    return eventually(held)


@pytest.mark.smoke
def test_a_running_container_is_resized_up_and_down(node, pods) -> None:
    pods.append("size")
    node.pod("size", sleeper(resources={"limits": {"cpu": "100m", "memory": "32Mi"}}))
    before = node.containers(node.get("size"))["app"]["pid"]
    assert amounts(node, "size") == ["10000", str(32 << 20)]
    for cpu, memory, quota, size in (
        ("300m", "64Mi", "30000", 64),
        ("50m", "24Mi", "5000", 24),
    ):
        resize(node, "size", cpu=cpu, memory=memory)
        wanted = [quota, str(size << 20)]
        eventually(lambda wanted=wanted: amounts(node, "size") == wanted)
    assert node.containers(node.get("size"))["app"]["pid"] == before
    assert node.get("size")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_container_that_wants_a_restart_for_memory_gets_one(node, pods) -> None:
    pods.append("again")
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    node.pod(
        "again",
        sleeper(resources={"limits": {"cpu": "100m", "memory": "32Mi"}}, resizePolicy=policy),
    )
    resize(node, "again", cpu="100m", memory="48Mi")
    node.wait("again", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    node.wait("again", "condition=Ready")
    assert amounts(node, "again") == ["10000", str(48 << 20)]


def test_more_than_the_node_has_can_never_be(node, pods) -> None:
    pods.append("greedy")
    node.pod("greedy", sleeper(resources={"limits": {"cpu": "100m", "memory": "32Mi"}}))
    resize(node, "greedy", cpu="1000", memory="32Mi")
    told = await_condition(node, "greedy", "PodResizePending", "Infeasible")
    found = node.get("greedy")["status"]
    assert told["message"].startswith("Node didn't have enough capacity: cpu, requested: 1000000")
    shown = found["containerStatuses"][0]
    assert shown["allocatedResources"] == {"cpu": "100m", "memory": "32Mi"}
    assert shown["resources"]["limits"] == {"cpu": "100m", "memory": "32Mi"}
    assert amounts(node, "greedy")[0] == "10000"


def test_a_limit_below_what_is_in_use_is_not_set(node, pods) -> None:
    """It would kill the container; what it holds is said, and tried again."""
    pods.append("holds")
    hold = "dd if=/dev/zero of=/dev/shm/x bs=1M count=24 2>/dev/null; touch /ready; exec sleep 1000"
    node.pod(
        "holds",
        shell(
            hold,
            resources={"limits": {"cpu": "100m", "memory": "48Mi"}},
            readinessProbe={"exec": {"command": ["cat", "/ready"]}, "periodSeconds": 1},
        ),
    )
    resize(node, "holds", cpu="100m", memory="16Mi")
    told = await_condition(node, "holds", "PodResizeInProgress", "Error")
    found = node.get("holds")["status"]
    assert "attempting to set container memory limit (16Mi) below current usage" in told["message"]
    shown = found["containerStatuses"][0]
    assert shown["resources"]["limits"]["memory"] == str(48 << 20)
    assert shown["allocatedResources"]["memory"] == "16Mi"
    assert shown["restartCount"] == 0


def test_a_limit_of_the_pod_as_a_whole_holds_for_its_containers_together(node, pods) -> None:
    pods.append("whole")
    hungry = shell("tail /dev/zero")
    node.pod(
        "whole", hungry, sleeper("calm"), resources={"limits": {"memory": "24Mi"}}, restartPolicy="Never",
        wait="jsonpath={.status.containerStatuses[0].state.terminated.exitCode}=137",
    )  # fmt: skip


def test_who_fills_its_disk_beyond_its_limit_is_evicted(node, pods) -> None:
    pods += ["full", "layer"]
    volume = {"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}
    fill = "dd if=/dev/zero of={} bs=1M count=3 2>/dev/null; exec sleep 1000"
    failed = "jsonpath={.status.reason}=Evicted"
    node.pod(
        "full", shell(fill.format("/v/big"), volumeMounts=[{"name": "v", "mountPath": "/v"}]), volumes=[volume], wait=failed
    )  # fmt: skip
    status = node.get("full")["status"]
    assert (status["phase"], status["message"]) == (
        "Failed",
        'Usage of EmptyDir volume "v" exceeds the limit "1Mi". ',
    )
    node.pod(
        "layer",
        shell(fill.format("/big"), resources={"limits": {"ephemeral-storage": "1Mi"}}),
        wait=failed,
    )
    message = node.get("layer")["status"]["message"]
    assert (
        message
        == f"Pod ephemeral local storage usage exceeds the total limit of containers {1 << 20}. "
    )


@pytest.mark.smoke
def test_a_best_effort_pod_takes_no_cpu_from_one_that_asked_for_it(node, pods) -> None:
    """The weights are those of the tiers, not only of the pods in them."""
    pods += ["asks", "free"]
    node.pod("asks", sleeper(resources={"requests": {"cpu": "500m"}}))
    made = node.pod("free", sleeper())
    cgroup = node.containers(made)["app"]["cgroup"]
    root = cgroup.partition("/kubepods/")[0] + "/kubepods"
    assert weight(f"{root}/besteffort") == weight(f"{root}/besteffort/pod{made['metadata']['uid']}")
    assert weight(f"{root}/burstable") > 10 * weight(f"{root}/besteffort")


def weight(cgroup: str) -> int:
    for path in (f"/sys/fs/cgroup/{cgroup}/cpu.weight", f"/sys/fs/cgroup/cpu/{cgroup}/cpu.shares"):
        if os.path.exists(path):
            with open(path, encoding="ascii") as f:
                return int(f.read())
    raise AssertionError(f"no cpu weight of {cgroup}")
