"""`down --keep-pods`: the log pump is all that stays of the node, for as long as anything needs it."""

from __future__ import annotations

import os
import select
import signal

from minipod.linux.process import pidfd_open
from tests.node import Node, eventually, shell
from tests.root.conftest import INSTANCE


def test_the_pump_of_kept_pods_ends_with_them(node, pods) -> None:
    pods.append("brief")
    node.pod("brief", shell("cat; exit 5", stdin=True), restartPolicy="Never")
    container = node.containers(node.get("brief"))["app"]
    pump = pidfd_open(node.status()["pump_pid"])
    node.run("down", "--keep-pods")
    assert not select.select([pump], [], [], 0)[0]
    os.kill(container["pid"], signal.SIGKILL)
    assert select.select([pump], [], [], 60)[0]
    os.close(pump)
    node.run("up")
    eventually(lambda: "terminated" in node.state("brief"))
    assert node.state("brief")["terminated"]["reason"] == "ContainerStatusUnknown"


def test_a_reset_ends_the_pump_of_kept_pods(settings) -> None:
    """And a node without pods leaves none."""
    other = Node(f"{INSTANCE}p")
    try:
        other.run("image", "build")
        other.run("up")
        pump = pidfd_open(other.status()["pump_pid"])
        other.run("down", "--keep-pods")
        assert select.select([pump], [], [], 60)[0]
        os.close(pump)
        other.run("up")
        other.pod("reset", shell("exec cat", stdin=True))
        pump = pidfd_open(other.status()["pump_pid"])
        other.run("down", "--keep-pods")
        assert not select.select([pump], [], [], 0)[0]
    finally:
        other.run("reset", "-y")
    assert select.select([pump], [], [], 60)[0]
    os.close(pump)
