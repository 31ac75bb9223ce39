"""kill -9 of any of our processes: the pods run on, nothing restarts, logs are whole, exit codes are told."""

from __future__ import annotations

import os
import select
import signal

import pytest

from minipod.linux.process import pidfd_open
from tests.node import shell

pytestmark = pytest.mark.smoke


def kill_and_wait(pid: int) -> None:
    pidfd = pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([pidfd], [], [], 5)[0]
    os.close(pidfd)


def await_other(node, key: str, old: int) -> None:
    """Wait until the node has another process in that role."""
    for _ in range(400):
        done = node.run("status", "-o", "json", check=False)
        if done.returncode == 0 and node.status()[key] not in (0, old):
            return
        select.select([], [], [], 0.05)
    raise AssertionError(f"no new {key}")


@pytest.mark.parametrize("role", ["pid", "pump_pid", "prober_pid", "supervisor_pid"])
def test_pods_survive_the_death_of(node, pods, role: str) -> None:
    pods.append("stay")
    counter = shell(
        "i=0; while true; do echo $i; i=$((i+1)); usleep 5000; done",
        readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1},
    )
    reader = shell("cat; exit 3", name="reader", stdin=True)  # ends when the last writer is gone
    terminal = shell(  # SIGHUP when the last master is gone
        "i=0; while true; do echo $i; i=$((i+1)); usleep 5000; done", name="terminal", tty=True
    )
    before = node.containers(node.pod("stay", counter, reader, terminal))
    old = node.status()[role]
    kill_and_wait(old)
    await_other(node, role, old)
    after = node.containers(node.get("stay"))
    for name in ("app", "reader", "terminal"):
        assert (after[name]["id"], after[name]["pid"]) == (before[name]["id"], before[name]["pid"])
        assert os.path.exists(f"/proc/{after[name]['pid']}/exe")
    statuses = node.get("stay")["status"]["containerStatuses"]
    assert [s["restartCount"] for s in statuses] == [0, 0, 0]
    assert node.exec("stay", "echo", "here", container="app") == "here\n"
    for name in ("app", "terminal"):
        lines = [int(line) for line in node.run("logs", "stay", "-c", name).stdout.split()]
        assert lines == list(range(len(lines)))
        assert len(lines) > 10


def test_an_exit_after_the_supervisors_death_is_told_with_its_code(node, pods) -> None:
    pods.append("late")
    node.pod(
        "late", shell("while [ ! -e /go ]; do usleep 20000; done; exit 42"), restartPolicy="Never"
    )
    old = node.status()["supervisor_pid"]
    kill_and_wait(old)
    await_other(node, "supervisor_pid", old)
    node.exec("late", "touch", "/go")
    node.run("wait", "pod/late", "--for=jsonpath={.status.phase}=Failed")
    assert node.state("late")["terminated"]["exitCode"] == 42


def test_down_and_up_with_pods_kept_finds_them_running(node, pods) -> None:
    pods.append("kept")
    before = node.containers(node.pod("kept", shell("sleep 1000")))["app"]
    node.run("down", "--keep-pods")
    node.run("up")
    assert node.containers(node.get("kept"))["app"]["pid"] == before["pid"]
    node.run("wait", "pod/kept", "--for=condition=Ready")
