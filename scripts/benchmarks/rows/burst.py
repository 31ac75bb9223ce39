"""Fifty pods at once: nothing that was prepared beforehand is left for the last ones."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
        begin = time.time()
        made = list(clients.map(node.create, names))
        node.await_ready(set(names), since)
        executed = [node.executed_at(pod) for pod in made]
        node.delete(set(names), force=True)
        return figures([(e - begin) * 1e3 for e in executed])

    with ThreadPoolExecutor(max_workers=bench.few(50)) as clients:
        yield once


def figures(each: list[float]) -> dict[str, float]:
    """Return the figures of pods that were asked for at once, from the milliseconds of each."""
    return {
        "half of them have executed": statistics.median(each),
        "all have executed": max(each),
    }


@contextmanager
def containerd(bench: Bench) -> Iterator[Once]:
    """All at once over one connection, each RunPodSandbox, CreateContainer, StartContainer, as a kubelet asks."""
    daemon = peer.shared(bench)

    def once() -> dict[str, float]:
        begin = time.perf_counter()
        made = daemon.cri.together([daemon.burst_pod() for _ in range(bench.few(50))])
        daemon.cri.together([daemon.burst_remove(sandbox) for _, sandbox in made])
        return figures([(executed - begin) * 1e3 for executed, _ in made])

    yield once


ROW = Row(
    title="A burst of 50 pods",
    figures=(
        Figure("half of them have executed"),
        Figure("all have executed"),
    ),
    sides={"minipod": minipod, "containerd": containerd},
    runs=3,
    warm=False,
    note="From the moment at which all are asked for; a few find a prepared sandbox, the others have theirs made. "
    "minipod: 50 clients, each creates a pod over its API. containerd: 50 calls at once "
    "over one connection, RunPodSandbox, CreateContainer, StartContainer for each, without a kubelet and an API on top.",
)
