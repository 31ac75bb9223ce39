"""A node on cgroup v2 on a hybrid machine, as `scripts/unified` runs it: everything of v2 but its controllers, without a VM."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator

import pytest

from minipod.cgroups.hierarchy import Mode, detect
from minipod.cli.client import Client
from tests.node import Node, eventually, python, running
from tests.root.conftest import INSTANCE, await_nothing_left, snapshot

UNIFIED = os.path.abspath(f"{__file__}/../../../scripts/unified")

LOOK = """
import time
print(open("/proc/self/cgroup").read().splitlines()[-1])
try:
    open("/dev/kmsg")
except OSError as e:
    print("kmsg", e.errno)
open("/dev/null")
print("null", flush=True)
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """Its mounts, and so its sockets, are in the namespace of a process that waits there."""
    if detect().mode is not Mode.HYBRID:
        pytest.skip("this machine has not both, v1 trees and a unified one")
    before = snapshot()
    made = Node(f"{INSTANCE}u")
    waits = [UNIFIED, "sh", "-c", "echo inside; exec cat"]
    with subprocess.Popen(waits, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as inside:
        assert inside.stdout.readline() == b"inside\n"
        made.command = ["nsenter", f"--target={inside.pid}", "--mount", *made.command]
        run_root = f"/proc/{inside.pid}/root{made.instance.run_root}"
        made.client = Client(dataclasses.replace(made.instance, run_root=run_root))
        with running(made):
            yield made
        inside.stdin.close()
    await_nothing_left(before)


def members(tree: str, cgroup: str) -> list[int]:
    with open(f"/sys/fs/cgroup/{tree}/{cgroup}/cgroup.procs", encoding="ascii") as f:
        return [int(line) for line in f]


def test_a_pod_lives_in_the_unified_tree_alone(node) -> None:
    container, volumes = python(LOOK)
    made = node.pod("alone", container, volumes=volumes)
    assert node.await_log("alone", "null").splitlines() == ["0::/", "kmsg 2", "null"]
    found = node.containers(made)["app"]
    assert members("unified", found["cgroup"]) == [found["pid"]]
    with open(f"/proc/{found['pid']}/cgroup", encoding="ascii") as f:
        places = dict(line.strip().split(":", 2)[::2] for line in f)
    assert places.pop("0") == f"/{found['cgroup']}"
    assert not any(INSTANCE in place for place in places.values())
    node.delete("alone")
    eventually(lambda: not os.path.exists(f"/sys/fs/cgroup/unified/{found['cgroup']}"))
