"""Thirty and three hundred pods: until all are seen Ready, and until all are gone by force."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench
from benchmarks.row import Figure, Once, Row


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    node, numbers = bench.node(), itertools.count()

    def fleet(count: int) -> tuple[float, float]:
        names = {f"fleet{next(numbers)}" for _ in range(count)}
        since, begin = node.version(), time.time()
        for name in names:
            node.create(name)
        node.await_ready(names, since)
        ready = (time.time() - begin) * 1e3
        return ready, node.delete(names, force=True)

    def once() -> dict[str, float]:
        small, small_gone = fleet(bench.few(30))
        large, large_gone = fleet(bench.few(300, 3))
        return {
            "30 pods, all Ready": small, "30 pods, deleted by force": small_gone,
            "300 pods, all Ready": large, "300 pods, deleted by force": large_gone,
        }  # fmt: skip

    yield once


KUBELET = "kubelet with containerd"
ROW = Row(
    title="Many pods",
    figures=(
        Figure("30 pods, all Ready", aim=600, quoted=f"22,800, {KUBELET}"),
        Figure("300 pods, all Ready", aim=6000),
        Figure("30 pods, deleted by force", quoted=f"4,600, {KUBELET}"),
        Figure("300 pods, deleted by force"),
    ),
    sides={"minipod": minipod},
    runs=2,
    warm=False,
    note="One client creates them one after another; a kubelet with an API server, the thing to compare with, is not in Debian 12.",
)
