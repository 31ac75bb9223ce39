"""Log throughput of one container that writes lines of 100 bytes, and what it does to a pod that starts beside it."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench
from benchmarks.peers import containerd as peer
from benchmarks.row import Figure, Once, Row

LINES, QUICK_LINES = 500_000, 5_000
LINE = "x" * 99
FLOOD = ["sh", "-c", f"trap 'exit 0' TERM; while :; do yes {LINE} | head -n 100000; done"]


def writer(lines: int) -> list[str]:
    return ["sh", "-c", f"yes {LINE} | head -n {lines}; echo the end; sleep 1000"]


def await_end(find: Callable[[], str]) -> float:
    """Return the time at which the log's last line is in its file."""
    while True:
        # It may not be there yet, or be rotated between two looks.
        with contextlib.suppress(FileNotFoundError), open(find(), "rb") as f:
            f.seek(max(0, os.path.getsize(f.fileno()) - 20))
            if f.read().endswith(b"the end\n"):
                return time.time()
        time.sleep(0.002)


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    node, numbers = bench.node(), itertools.count()
    lines = bench.few(LINES, QUICK_LINES)

    def started(name: str) -> float:
        begin = time.time()
        made = node.create(name)
        node.await_ready({name}, made["metadata"]["resourceVersion"])
        return (node.executed_at(made) - begin) * 1e3

    def once() -> dict[str, float]:
        n = next(numbers)
        made = node.create(f"writer{n}", writer(lines))
        node.await_ready({f"writer{n}"}, made["metadata"]["resourceVersion"])
        path = f"{node.instance.log_dir}/default_writer{n}_{made['metadata']['uid']}/c/0.log"
        took = await_end(lambda: path) - node.executed_at(made)
        node.delete({f"writer{n}"}, force=True)
        quiet = started(f"quiet{n}")
        flood = node.create(f"flood{n}", FLOOD)
        node.await_ready({f"flood{n}"}, flood["metadata"]["resourceVersion"])
        beside = started(f"beside{n}")
        node.delete({f"flood{n}", f"quiet{n}", f"beside{n}"}, force=True)
        return {
            "throughput": lines * 100 / 1e6 / took,
            "create -> execve of another pod": quiet,
            "the same beside a flood": beside,
            "that, of the quiet one": beside / quiet,
        }

    yield once


@contextmanager
def containerd(bench: Bench) -> Iterator[Once]:
    daemon, lines = peer.shared(bench), bench.few(LINES, QUICK_LINES)

    def started() -> tuple[float, tuple[str, str]]:
        begin = time.perf_counter()
        made = daemon.pod()
        return (time.perf_counter() - begin) * 1e3, made

    def once() -> dict[str, float]:
        pod = daemon.pod(writer(lines))
        begin = time.time()
        took = await_end(daemon.log_of_newest) - begin
        daemon.remove(pod[0])
        quiet, first = started()
        flood = daemon.pod(FLOOD)
        beside, second = started()
        for sandbox, _ in (first, flood, second):
            daemon.remove(sandbox)
        return {
            "throughput": lines * 100 / 1e6 / took,
            "create -> execve of another pod": quiet,
            "the same beside a flood": beside,
            "that, of the quiet one": beside / quiet,
        }

    yield once


ROW = Row(
    title="Logs: one container writes lines of 100 bytes",
    figures=(
        Figure("throughput", "MB/s", aim=100),
        Figure("create -> execve of another pod"),
        Figure("the same beside a flood"),
        Figure("that, of the quiet one", "x", aim=2),
    ),
    sides={"minipod": minipod, "containerd": containerd},
    runs=5,
    note="Throughput counts the container's bytes, until the last line is in the log file in the CRI format. "
    "On two cores the writing container takes one. "
    "What a flood does to probes is in the row of probes.",
)
