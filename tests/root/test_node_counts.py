"""How many processes and system calls a pod costs until its command runs, counted by strace on the supervisor.

A bound says what it is now and a little more: raise one with a reason. Times are not judged here, see scripts/bench.
"""

from __future__ import annotations

import re

from tests.node import shell, sleeper
from tests.strace import needs_strace, traced

CALL = re.compile(r"^(\d+) +([a-z_0-9]+)\(")
FORK = re.compile(r"^(\d+) .*?(?:clone3?|fork)\b.*(?:\)|resumed>.*) += (\d+)")


def read(path: str) -> tuple[list[tuple[int, int]], list[tuple[int, str]]]:
    """Return the forks as (parent, child) and the calls as (process, name), in their order."""
    forks, calls = [], []
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            if (call := CALL.match(line)) is not None:
                calls.append((int(call[1]), call[2]))
            if (fork := FORK.match(line)) is not None:
                forks.append((int(fork[1]), int(fork[2])))
    return forks, calls


def until_execve(calls: list[tuple[int, str]], pid: int) -> list[str]:
    names = [name for process, name in calls if process == pid]
    return names[: names.index("execve")] if "execve" in names else names


@needs_strace
def test_a_pod_costs_one_fork_and_a_bounded_number_of_calls(node, pods, tmp_path) -> None:
    """The container's main process sets itself up. Excluded: what the daemon does, which makes the sandbox in a thread."""
    pods.append("counted")
    supervisor, path = node.status()["supervisor_pid"], str(tmp_path / "trace")
    with traced(supervisor, path):
        node.pod("counted", sleeper())
    forks, calls = read(path)
    (main,) = [child for parent, child in forks if parent == supervisor]
    assert main not in {parent for parent, _ in forks}
    count = len(until_execve(calls, main))
    assert count <= 450, count


@needs_strace
def test_an_exec_costs_one_fork(node, pods, tmp_path) -> None:
    """Of a process that makes its calls and nothing else."""
    pods.append("counted")
    node.pod("counted", sleeper())
    supervisor, path = node.status()["supervisor_pid"], str(tmp_path / "trace")
    with traced(supervisor, path):
        node.exec("counted", "true")
    forks, calls = read(path)
    ((_, child),) = forks
    assert len(until_execve(calls, child)) <= 90


@needs_strace
def test_an_exec_that_could_be_traced_costs_two_forks(node, pods, tmp_path) -> None:
    """The first one leaves the host's namespaces, and has few descriptors, before anybody in the container can look at its child."""
    pods.append("counted")
    node.pod("counted", sleeper(securityContext={"capabilities": {"add": ["SYS_PTRACE"]}}))
    supervisor, path = node.status()["supervisor_pid"], str(tmp_path / "trace")
    with traced(supervisor, path):
        node.exec("counted", "true")
    forks, calls = read(path)
    (entering, made), (parent, child) = sorted(forks, key=lambda fork: fork[0] != supervisor)
    assert (entering, parent) == (supervisor, made)
    assert len(until_execve(calls, made)) + len(until_execve(calls, child)) <= 230


def test_a_pod_is_written_a_few_times_in_its_life(node, pods) -> None:
    """Created, Ready, marked, ended, gone; statuses between two steps only where a step takes its time. Excluded: events."""
    pods.append("counted")
    collection = "/api/v1/namespaces/default/pods"
    since = node.client.request("GET", collection)["metadata"]["resourceVersion"]
    node.pod("counted", shell("trap 'exit 0' TERM; sleep 1000 & wait"))
    node.run("delete", "pod", "counted")
    kinds = []
    for event in node.client.watch(collection, {"resourceVersion": since}):
        kinds.append(event["type"])
        if event["type"] == "DELETED":
            break
    assert len(kinds) <= 8, kinds


@needs_strace
def test_a_pod_that_goes_costs_no_fork(node, pods, tmp_path) -> None:
    """The daemon drops its namespaces."""
    pods.append("counted")
    node.pod("counted", shell("trap 'exit 0' TERM; sleep 1000 & wait"))
    supervisor, path = node.status()["supervisor_pid"], str(tmp_path / "trace")
    with traced(supervisor, path):
        node.run("delete", "pod", "counted")  # waits until it is gone
    forks, _ = read(path)
    assert not forks
