"""The node as a systemd service, in a VM where systemd is process 1 and owns the cgroup tree (scripts/vm --systemd)."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.node import Node, eventually, shell, sleeper

pytestmark = pytest.mark.requires("root", "systemd")
UNIT = "minipod.service"


def systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        journal = subprocess.run(
            ["journalctl", "-u", UNIT, "-n", "40", "--no-pager"], capture_output=True, text=True, check=False
        ).stdout  # fmt: skip
        raise AssertionError(f"systemctl {' '.join(words)}: {done.stderr}\n{journal}")
    return done.stdout


@pytest.fixture(scope="module")
def node():
    made = Node("minipod")
    made.run("image", "build")
    made.run("install-service", "--now")
    yield made
    made.run("install-service", "--remove")
    made.run("reset", "-y")
    assert not os.path.exists(f"/etc/systemd/system/{UNIT}")


def supervisor(node: Node) -> int:
    """Return the supervisor's pid, 0 while there is none."""
    return node.status().get("supervisor_pid", 0) if node.is_up() else 0


def test_pods_live_in_a_delegated_scope_with_their_limits(node) -> None:
    pod = node.pod(
        "limited", sleeper(resources={"limits": {"memory": "32Mi", "cpu": "500m"}})
    )  # fmt: skip
    container = node.containers(pod)["app"]
    with open(f"/proc/{container['pid']}/cgroup", encoding="ascii") as f:
        path = f.read().strip().removeprefix("0::")
    assert path.startswith("/system.slice/minipod-pods-minipod.scope/minipod/kubepods/")
    for name, value in (("memory.max", str(32 << 20)), ("cpu.max", "50000 100000")):
        with open(f"/sys/fs/cgroup{path}/{name}", encoding="ascii") as f:
            assert f.read().strip() == value
    node.delete("limited")


def test_a_restart_keeps_the_containers(node) -> None:
    before = node.containers(node.pod("kept", shell("exec sleep 1000")))["app"]
    old = node.status()["supervisor_pid"]
    systemctl("restart", UNIT)
    assert node.status()["supervisor_pid"] != old
    after = node.containers(node.get("kept"))["app"]
    assert (after["id"], after["pid"]) == (before["id"], before["pid"])
    assert node.get("kept")["status"]["containerStatuses"][0]["restartCount"] == 0
    assert node.exec("kept", "echo", "here") == "here\n"
    assert node.run("doctor", "--leaks").stdout == "nothing is left behind\n"
    node.delete("kept")


def test_the_service_lives_on_when_the_supervisor_is_killed(node) -> None:
    before = node.containers(node.pod("alive", shell("exec sleep 1000")))["app"]
    old = node.status()["supervisor_pid"]
    os.kill(old, 9)
    node.pod("next", sleeper())  # nobody waits for the next supervisor
    node.run("wait", "pod/alive", "--for=condition=Ready")
    assert node.status()["supervisor_pid"] != old
    assert systemctl("is-active", UNIT) == "active\n"
    assert node.containers(node.get("alive"))["app"]["pid"] == before["pid"]
    node.delete("alive", "next")


def test_the_service_starts_again_when_supervisor_and_daemon_are_killed(node) -> None:
    """Nobody is left who could start another: that is systemd's part."""
    before = node.containers(node.pod("orphan", shell("exec sleep 1000")))["app"]
    status = node.status()
    for role in (
        "supervisor_pid",
        "pid",
    ):  # in this order: the supervisor would start another daemon
        os.kill(status[role], 9)
    eventually(lambda: supervisor(node), 60)
    assert node.containers(node.get("orphan"))["app"]["pid"] == before["pid"]
    assert systemctl("is-active", UNIT) == "active\n"
    node.delete("orphan")


def test_a_stop_ends_pods_gracefully(node, tmp_path) -> None:
    trap = (
        "trap 'echo ended > /out/told; exit 0' TERM; touch /out/ready; while :; do sleep 0.1; done"
    )
    node.pod(
        "graceful", shell(trap, volumeMounts=[{"name": "out", "mountPath": "/out"}]),
        volumes=[{"name": "out", "hostPath": {"path": str(tmp_path)}}], terminationGracePeriodSeconds=20,
    )  # fmt: skip
    pid = node.containers(node.get("graceful"))["app"]["pid"]
    eventually((tmp_path / "ready").exists)
    systemctl("stop", UNIT)
    assert (tmp_path / "told").read_text() == "ended\n"
    assert not os.path.exists(f"/proc/{pid}")
    assert subprocess.run(
        ["systemctl", "is-active", UNIT], capture_output=True, check=False
    ).returncode
    systemctl("start", UNIT)
