"""Proportional set size of all our processes, idle and for each pod besides the app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench, pss
from benchmarks.peers import containerd
from benchmarks.row import Figure, Once, Row
from minipod.daemon import start_node
from minipod.daemon.node import node_pids


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    node, count = bench.node(), bench.few(50)

    def once() -> dict[str, float]:
        node.minipod("down")
        start_node(node.instance)
        pids = node_pids(node.instance)
        idle = pss(pids)
        names = {f"m{n}" for n in range(count)}
        since = node.version()
        for name in names:
            node.create(name)
        node.await_ready(names, since)
        used = pss(pids) - idle
        node.delete(names, force=True)
        return {"idle": idle / 1e6, "per pod": used / count / 1e3}

    yield once


ROW = Row(
    title="Memory (PSS)",
    figures=(
        Figure("idle", "MB", aim=80, quoted="622, etcd to kubelet"),
        Figure("per pod", "KB", aim=100, quoted="4,300, shim and pause"),
    ),
    sides={"minipod": minipod, "containerd": containerd.memory},
    runs=3,
    warm=False,
    note="minipod: supervisor, daemon (API, store, kubelet, runtime, network), prober and log pump after a start; per pod what they "
    "grew by with 50 pods, the heap's first growth included. containerd: the daemon alone, no kubelet, no API server, no "
    "etcd; per pod its shim, too, without the pause process.",
)
