"""Fifty pods that crash at once: what the node costs meanwhile. Excluded: other nodes' load on the machine (CPU time counts).

With Kubernetes' backoffs of 10, 20, 40 s that is less, and the rest of the time they wait, which costs nothing.
"""

from __future__ import annotations

import os
import time

import pytest
import yaml

from minipod.cgroups.hierarchy import of_node
from tests.node import Node, eventually, shell

PODS = 50
BACKOFF = 3  # seconds, the first
WINDOW = 10.0  # seconds; their second backoff is 6 s, so each restarts once in it
# ms of processor time for each restart, of which nearly all is the making of containers
LIMIT = 60.0


def manifest(name: str) -> dict:
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": {"minipod.dev/crash-loop-initial": f"{BACKOFF}s"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"image": "busybox:1.36", **shell("exit 1")}],
        },
    }  # fmt: skip


def restarts(node: Node) -> list[int]:
    items = node.client.request("GET", "/api/v1/namespaces/default/pods")["items"]
    found = [i["status"].get("containerStatuses") or [] for i in items]
    return [c["restartCount"] for one in found for c in one]


def cpu_seconds(node: Node) -> float:
    """Of the node's processes and everything that they made."""
    hierarchy = of_node(node.instance.run_dir)
    return hierarchy.stats(node.instance.cgroup_root)["cpu_ns"] / 1e9


@pytest.mark.timeout(180)
def test_fifty_crash_loops_cost_a_few_milliseconds_each_time(node, capsys) -> None:
    names = [f"loop{n}" for n in range(PODS)]
    text = "---\n".join(yaml.safe_dump(manifest(name)) for name in names)
    node.run("apply", "-f", "-", text=text)
    try:
        eventually(lambda: sum(count >= 2 for count in restarts(node)) == PODS, 100)
        before, cpu = sum(restarts(node)), cpu_seconds(node)
        time.sleep(WINDOW)
        happened, used = sum(restarts(node)) - before, cpu_seconds(node) - cpu
    finally:
        node.run("delete", "pods", *names, "--force", "--grace-period=0")
        wait_until_gone(node)
    assert happened > 0
    with capsys.disabled():
        print(f"\n{happened} restarts in {WINDOW:g} s: {1000 * used / happened:.1f} ms of cpu each")
    assert 1000 * used / happened < LIMIT


def wait_until_gone(node: Node) -> None:
    tree = of_node(node.instance.run_dir).trees[0]
    left = tree.path(f"{node.instance.cgroup_root}/kubepods/besteffort")
    eventually(lambda: not [n for n in os.listdir(left) if n.startswith("pod")])
    eventually(lambda: node.client.request("GET", "/minipod/status")["pods"] == 0)
