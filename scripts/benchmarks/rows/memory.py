"""Proportional set size of all our processes: idle, and for each pod besides the app.

The first pods bring what is made once, so more of them are counted apart. Events are kept for an hour, 2 KB each: those that other
rows' pods left are deleted, or the figure would say which rows ran before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench, Node, pss
from benchmarks.peers import containerd
from benchmarks.row import Figure, Once, Row
from minipod.daemon.node import node_pids, start_node


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    node, count = bench.node(), bench.few(50)

    def once() -> dict[str, float]:
        node.client.request("DELETE", node.client.path("events", "default"))
        node.minipod("down")
        start_node(node.instance)
        pids = node_pids(node.instance)
        idle = pss(pids)
        first = grown(node, pids, [f"m{n}" for n in range(count)]) - idle
        more = [f"more{n}" for n in range(2 * count)]
        used = grown(node, pids, more) - idle - first
        node.delete({f"m{n}" for n in range(count)} | set(more), force=True)
        return {
            "idle": idle / 1e6,
            "per pod, the first 50": first / count / 1e3,
            "per pod, 100 more": used / len(more) / 1e3,
        }

    yield once


def grown(node: Node, pids: list[int], names: list[str]) -> int:
    """Make pods; return the processes' PSS with them."""
    since = node.version()
    for name in names:
        node.create(name)
    node.await_ready(set(names), since)
    return pss(pids)


ROW = Row(
    title="Memory (PSS)",
    figures=(
        Figure("idle", "MB", aim=80, quoted="622, etcd to kubelet"),
        Figure("per pod, the first 50", "KB"),
        Figure("per pod, 100 more", "KB", aim=100, quoted="4,300, shim and pause"),
    ),
    sides={"minipod": minipod, "containerd": containerd.memory},
    runs=3,
    warm=False,
    note="minipod: supervisor, daemon (API, store, kubelet, runtime, network), prober and log pump after a start, without events; "
    "per pod what they grow by. containerd: the daemon alone, no kubelet, no API server, no etcd, 20 and 20 more pods; per pod its "
    "shim, too, without the pause process.",
)
