"""The node's start to Ready when it has run before."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench
from benchmarks.peers import containerd
from benchmarks.row import Figure, Once, Row
from minipod.daemon.node import start_node


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    node = bench.node()

    def once() -> dict[str, float]:
        node.minipod("down")
        begin = time.perf_counter()
        start_node(node.instance)
        return {"start": (time.perf_counter() - begin) * 1e3}

    yield once


ROW = Row(
    title="Start of a node that has run before",
    figures=(Figure("start", aim=500, quoted="22,000, etcd to kubelet"),),
    sides={"minipod": minipod, "containerd": containerd.start},
    runs=10,
    note="minipod: until the node is Ready and its API answers. containerd alone, until its CRI answers: no kubelet, API server or etcd.",
)
