"""kill -9 of any of our processes: the pods run on, nothing restarts, logs are whole, exit codes are told."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from pathlib import Path

import pytest

from minipod.cgroups.hierarchy import of_node
from minipod.errors import MinipodError
from minipod.linux.process import pidfd_open
from tests.node import PATIENCE, eventually, shell

pytestmark = pytest.mark.smoke

# As often as the machine bears: in an emulated one two of these would leave the next daemon no processor.
TICKS = f"i=0; while true; do echo $i; i=$((i+1)); usleep {5000 * PATIENCE:.0f}; done"


def kill_and_wait(pid: int) -> None:
    pidfd = pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert select.select([pidfd], [], [], 60 * PATIENCE)[0]
    os.close(pidfd)


def await_other(node, key: str, old: int) -> None:
    """Wait until the node has another process in that role."""

    def another() -> bool:
        try:
            return node.client.request("GET", "/minipod/status")[key] not in (0, old)
        except (MinipodError, OSError, ValueError):
            return False  # the daemon that answered has ended, or the next one is on its way

    eventually(another, 60)


@pytest.mark.parametrize("role", ["pid", "pump_pid", "prober_pid", "supervisor_pid"])
def test_pods_survive_the_death_of(node, pods, role: str) -> None:
    pods.append("stay")
    counter = shell(TICKS, readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1})
    reader = shell("cat; exit 3", name="reader", stdin=True)  # ends when the last writer is gone
    terminal = shell(TICKS, name="terminal", tty=True)  # SIGHUP when the last master is gone
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
        node.await_log("stay", "\n11", container=name)
        lines = [int(line) for line in node.run("logs", "stay", "-c", name).stdout.split()]
        lost = set(range(lines[-1])) - set(lines)
        # kill -9 takes what a pump had read and not written yet (`supervisor.pump`): one line at most.
        assert lines == sorted(set(lines))
        assert len(lost) <= (role == "pump_pid")


def test_an_exit_after_the_supervisors_death_is_told_with_its_code(node, pods) -> None:
    pods.append("late")
    node.pod(
        "late", shell("while [ ! -e /go ]; do usleep 20000; done; exit 42"), restartPolicy="Never"
    )
    old = node.status()["supervisor_pid"]
    kill_and_wait(old)
    await_other(node, "supervisor_pid", old)
    node.exec("late", "touch", "/go", check=False)  # its container may end first
    node.wait("late", "jsonpath={.status.phase}=Failed")
    assert node.state("late")["terminated"]["exitCode"] == 42


ECHOES = "while read line; do echo got $line; done; exit 3"  # ends with its stdin


def test_down_and_up_with_pods_kept_finds_them_running(node, pods) -> None:
    """Also those that a stdin or a terminal keeps alive; logs go on meanwhile, and attach works afterwards."""
    pods.append("kept")
    made = node.pod(
        "kept",
        shell(TICKS),
        shell(ECHOES, name="reader", stdin=True),
        shell(ECHOES, name="terminal", stdin=True, tty=True),
    )
    before = node.containers(made)
    log, pump = Path(before["app"]["log"]), node.status()["pump_pid"]
    node.run("down", "--keep-pods")
    eventually(lambda: node.run("doctor", "--leaks", check=False).returncode == 0)
    size = log.stat().st_size
    eventually(lambda: log.stat().st_size > size + 1000)
    node.run("up")
    eventually(lambda: not os.path.exists(f"/proc/{pump}"))
    after = node.containers(node.get("kept"))
    assert {n: c["pid"] for n, c in after.items()} == {n: c["pid"] for n, c in before.items()}
    node.wait("kept", "condition=Ready")
    lines = [int(line) for line in node.run("logs", "kept", "-c", "app").stdout.split()]
    assert lines == list(range(len(lines)))
    for name in ("reader", "terminal"):
        command = [*node.command, "attach", "-i", "kept", "-c", name]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as client:
            client.stdin.write("word\n")
            client.stdin.flush()
            said = [client.stdout.readline().strip() for _ in range(1 + (name == "terminal"))]
            client.kill()
        assert said[-1] == "got word"  # a terminal echoes what it reads


SPEAKS = "trap '' HUP TERM; sleep {0} & echo on; wait; sleep {0}; :"


def has(node, pod: str, word: str) -> bool:
    """Whether a process of the container has *word* in its command line; without an exec."""
    cgroup = node.containers(node.get(pod))["app"]["cgroup"]
    for pid in of_node(node.instance.run_dir).procs(cgroup):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return True
    return False


@pytest.mark.parametrize("spec", [{}, {"shareProcessNamespace": True}, {"hostPID": True}], ids=str)
def test_execs_end_with_the_supervisor_that_ran_them(node, pods, spec) -> None:
    """With their whole session. Excluded: what the container itself, or a command that has ended, left in the background."""
    pods.append("ends")
    node.pod("ends", shell("(setsid sleep 4501 &); exec sleep 1000"), **spec)
    node.exec("ends", "sh", "-c", "sleep 4502 >/dev/null 2>&1 &")
    command = [*node.command, "exec", "ends", "--", "sh", "-c", SPEAKS.format("4503")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout.readline() == "on\n"
        old = node.status()["supervisor_pid"]
        kill_and_wait(old)
        await_other(node, "supervisor_pid", old)
        assert client.wait(60) == 137
    eventually(lambda: not has(node, "ends", "4503"))
    assert has(node, "ends", "4501")
    assert has(node, "ends", "4502")
    assert node.exec("ends", "echo", "here") == "here\n"
