"""`get pods` on a warm node: ours and kubectl's, both as a person types them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import MINIPOD, Bench, Node, timed
from benchmarks.row import Figure, Missing, Once, Row


@contextmanager
def ten_pods(bench: Bench) -> Iterator[Node]:
    node = bench.node()
    names, since = {f"get{n}" for n in range(bench.few(10))}, node.version()
    for name in names:
        node.create(name)
    node.await_ready(names, since)
    yield node
    node.delete(names, force=True)


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    with ten_pods(bench) as node:
        command = [MINIPOD, "--instance", node.instance.name, "get", "pods"]
        yield lambda: {"get pods": timed(command)}


@contextmanager
def kubectl(bench: Bench) -> Iterator[Once]:
    if shutil.which("kubectl") is None:
        raise Missing("no kubectl on PATH")
    command = [*bench.node().kubectl, "--cache-dir", f"{bench.directory}/kubectl", "get", "pods"]
    yield lambda: {"get pods": timed(command)}


ROW = Row(
    title="get pods on a warm node",
    figures=(Figure("get pods", aim=100),),
    sides={"minipod": minipod, "kubectl": kubectl},
    runs=30,
    note="The same node answers both: minipod over the unix socket, kubectl over TLS, with a warm discovery cache.",
)
