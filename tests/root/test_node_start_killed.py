"""kill -9 of the daemon on a container's way from its creation to its start: the next one has the pod whole, or makes it anew.

While the supervisor is stopped the daemon goes on to where it has asked for both; from then on it is killed at one of several moments.
Excluded: a daemon that dies while a sandbox is being made (test_node_making.py).
"""

from __future__ import annotations

import glob
import os
import signal
import time

import pytest

from minipod.cgroups.hierarchy import of_node
from tests.node import Node, eventually
from tests.root.test_node_adoption import await_other, kill_and_wait
from tests.root.test_node_removal import the_container, traces


def directories(node: Node) -> list[str]:
    """Return the ids of containers that have any: a record, or something on the disk."""
    roots = (node.instance.run_dir, node.instance.state_dir)
    return [os.path.basename(path) for root in roots for path in glob.glob(f"{root}/containers/*")]


def cgroups(node: Node, uid: str) -> set[str]:
    """Return the names of the cgroups in a pod's, in any tree."""
    points = of_node(node.instance.run_dir).mountpoints()
    below = f"{node.instance.cgroup_root}/kubepods"
    walks = (os.walk(f"{point}/{below}") for point in points)
    return {name for walk in walks for path, names, _ in walk if uid in path for name in names}


def processes(words: str) -> list[int]:
    """Return who runs a command with *words* in it."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if words.encode() in f.read():
                    found.append(int(pid))
        except OSError:
            continue  # it has ended
    return found


@pytest.mark.parametrize("moment", [None, 0.0, 0.002, 0.005, 0.01, 0.05])
def test_a_daemon_killed_on_a_containers_way_to_its_start_leaves_one_that_is_whole(
    node: Node, pods, moment: float | None
) -> None:
    """*moment*: seconds after the supervisor begins; None: it finds the requests of one that is dead."""
    pods.append("once")
    words = f"once in {node.instance.name}"
    command = ["sh", "-c", f": {words}; trap 'exit 0' TERM; sleep 1000 & wait"]
    status = node.status()
    supervisor, daemon = status["supervisor_pid"], status["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        node.pod("once", {"name": "app", "command": command}, wait="")
        eventually(lambda: glob.glob(f"{node.instance.run_dir}/containers/*/bundle.json"))
        if moment is None:
            kill_and_wait(daemon)
    finally:
        os.kill(supervisor, signal.SIGCONT)
    if moment is not None:
        time.sleep(moment)  # any will do: what holds afterwards is the same
        kill_and_wait(daemon)
    await_other(node, "pid", daemon)
    node.wait("once", "condition=Ready")
    pod = node.get("once")
    uid, container = pod["metadata"]["uid"], the_container(pod)
    (container_status,) = pod["status"]["containerStatuses"]
    assert container_status["restartCount"] == 0
    eventually(lambda: directories(node) == [container, container])  # the trash's are elsewhere
    eventually(lambda: cgroups(node, uid) == {container})
    # A shell that has forked and not executed its command yet has the same words.
    eventually(lambda: len(processes(words)) == 1)
    node.run("delete", "pod", "once")
    assert traces(node.instance, uid, container) == []
    assert processes(words) == []
