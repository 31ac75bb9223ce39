"""Fifty pods at once: nothing that was prepared beforehand is left for the last ones."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench
from benchmarks.peers import containerd as peer
from benchmarks.row import Figure, Once, Row


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    node, numbers = bench.node(), itertools.count()

    def once() -> dict[str, float]:
        names = [f"burst{next(numbers)}" for _ in range(bench.few(50))]
        since = node.version()
        begins, made = [], []
        for name in names:
            begins.append(time.time())
            made.append(node.create(name))
        node.await_ready(set(names), since)
        executed = [node.executed_at(pod) for pod in made]
        node.delete(set(names), force=True)
        each = [(e - b) * 1e3 for e, b in zip(executed, begins, strict=True)]
        return {
            "one of them, create -> execve": statistics.median(each),
            "the slowest, create -> execve": max(each),
            "until all have executed": (max(executed) - begins[0]) * 1e3,
        }

    yield once


@contextmanager
def containerd(bench: Bench) -> Iterator[Once]:
    """One after another: what a kubelet would do at once needs a client with threads."""
    daemon = peer.shared(bench)

    def once() -> dict[str, float]:
        begin = time.perf_counter()
        made = [daemon.pod() for _ in range(bench.few(50))]
        took = (time.perf_counter() - begin) * 1e3
        for sandbox, container in made:
            daemon.delete(sandbox, container)
        return {"until all have executed": took}

    yield once


ROW = Row(
    title="A burst of 50 pods",
    figures=(
        Figure("one of them, create -> execve"),
        Figure("the slowest, create -> execve"),
        Figure("until all have executed"),
    ),
    sides={"minipod": minipod, "containerd": containerd},
    runs=3,
    warm=False,
    note="containerd makes them one after another (our client is synchronous), without a kubelet on top.",
)
