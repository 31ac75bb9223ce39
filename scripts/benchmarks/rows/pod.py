"""One pod after another, each with its own network: create request to execve and Ready, stop and delete to gone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.bench import Bench
from benchmarks.peers import containerd, podman
from benchmarks.row import Figure, Once, Row

IDLE = 0.1  # seconds before each pod, as a peer's run is: a node that is idle prepares sandboxes
SYSCTL = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    node, numbers = bench.node(), itertools.count()

    def pod(**spec: Any) -> dict[str, float]:
        name = f"pod{next(numbers)}"
        time.sleep(IDLE)
        begin = time.time()
        made = node.create(name, **spec)
        node.await_ready({name}, made["metadata"]["resourceVersion"])
        ready = time.time()
        node.await_trap(made)
        return {
            "create -> execve": (node.executed_at(made) - begin) * 1e3,
            "create -> Ready": (ready - begin) * 1e3,
            "delete -> gone": node.delete({name}),
        }

    def once() -> dict[str, float]:
        other = pod(securityContext={"sysctls": [SYSCTL]})
        return {**pod(), "create -> execve, nothing prepared": other["create -> execve"]}

    yield once


ROW = Row(
    title="A pod with its network",
    figures=(
        Figure("create -> execve", aim=10),
        Figure("create -> execve, nothing prepared"),
        Figure("create -> Ready", aim=40, quoted="700-1,300, kubelet with containerd"),
        Figure("delete -> gone", aim=10),
    ),
    sides={"minipod": minipod, "containerd": containerd.pods, "podman": podman.pods},
    runs=30,
    note="The app exits on SIGTERM, which it is sent when it handles it. minipod: over its Kubernetes API, as a watch sees it. "
    "The node is idle before and has sandboxes prepared; for a pod with a sysctl none of them fits, so its own is made. "
    "containerd: RunPodSandbox, CreateContainer, StartContainer; then StopContainer, StopPodSandbox, RemovePodSandbox; no kubelet and "
    "no API server on top. podman: `podman kube play --network none` and `podman kube down`, the command included.",
)
