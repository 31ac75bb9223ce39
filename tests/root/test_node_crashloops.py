"""Fifty pods that crash at once: what the node costs meanwhile. Excluded: other nodes' load on the machine (CPU time counts)."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
import yaml

from minipod.cgroups.hierarchy import of_node
from tests.node import MINIPOD, Node, shell

PODS = 50
WINDOW = 25.0  # seconds; their second backoff is 20 s, so each restarts once in it
LIMIT = 12.0  # percent of one core, of which nearly all is the making of containers


def manifest(name: str) -> dict:
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "loop"}},
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
def test_fifty_crash_loops_cost_a_few_percent(node, capsys) -> None:
    names = [f"loop{n}" for n in range(PODS)]
    text = "---\n".join(yaml.safe_dump(manifest(name)) for name in names)
    node.run("apply", "-f", "-", text=text)
    try:
        deadline = time.monotonic() + 90
        while min([*restarts(node), *[0] * (PODS - len(restarts(node)))], default=0) < 2:
            assert time.monotonic() < deadline, restarts(node)
            time.sleep(0.5)
        before, cpu, began = sum(restarts(node)), cpu_seconds(node), time.monotonic()
        time.sleep(WINDOW)
        percent = 100 * (cpu_seconds(node) - cpu) / (time.monotonic() - began)
        happened = sum(restarts(node)) - before
    finally:
        node.run("delete", "pods", *names, "--force", "--grace-period=0")
        wait_until_gone(node)
    with capsys.disabled():
        print(
            f"\n{PODS} crash loops: {percent:.1f} % of a core, {happened} restarts in {WINDOW:g} s"
        )
    assert percent < LIMIT


def wait_until_gone(node: Node) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = subprocess.run(
            [MINIPOD, "--instance", node.instance.name, "status", "-o", "json"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        left = (
            of_node(node.instance.run_dir)
            .trees[0]
            .path(f"{node.instance.cgroup_root}/kubepods/besteffort")
        )
        if json.loads(done.stdout)["pods"] == 0 and not [
            n for n in os.listdir(left) if n.startswith("pod")
        ]:
            return
        time.sleep(0.2)
