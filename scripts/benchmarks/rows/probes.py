"""What a probe costs, and how late probes come at 3,000 a second on a node that is busy otherwise."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from benchmarks import lanes, probing
from benchmarks.bench import IMAGE, Bench, Node, cpu_of, fresh_node
from benchmarks.peers import oci
from benchmarks.row import Figure, Once, Row
from benchmarks.rows.api import refused
from benchmarks.rows.logs import FLOOD
from minipod.daemon.node import node_status
from minipod.runtime.probe_exec import ProbeExec

PODS, OTHERS = 100, 900  # probed, and only listed
HTTP_MS, TCP_MS = 50, 100  # periods: 100 pods are probed 3,000 times a second
SECONDS = 5.0  # of each phase
EXEC, EXEC_CPU = "exec probe of /bin/true", "exec probe, CPU of all that take part"
Histogram = dict[float, int]  # how many were at most so many seconds late


def probed(name: str, address: str, port: int) -> dict[str, object]:
    """Return a pod whose probes go to our server."""
    container = {
        "name": "c", "image": IMAGE, "command": ["sleep", "100000"],
        "readinessProbe": {"httpGet": {"host": address, "port": port, "path": "/healthz"}},
        "livenessProbe": {"tcpSocket": {"host": address, "port": port}},
    }  # fmt: skip
    periods = {
        "minipod.dev/readiness-probe-period-ms": str(HTTP_MS), "minipod.dev/liveness-probe-period-ms": str(TCP_MS),
    }  # fmt: skip
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": periods},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }  # fmt: skip


def lateness(node: Node) -> Histogram:
    """Return the prober's own histogram."""
    text = node.client.open("GET", "/metrics/probes").read().decode()
    lines = [
        line for line in text.splitlines() if line.startswith("minipod_prober_lateness_seconds_b")
    ]
    return {float(line.split('"')[1]): int(line.split()[-1]) for line in lines}


def p99(before: Histogram, after: Histogram) -> float:
    """Return the 99th percentile between two looks in ms, interpolated in its bucket as Prometheus does."""
    counts = {bound: after[bound] - before[bound] for bound in after}
    wanted = 0.99 * counts[float("inf")]
    low, reached = 0.0, 0
    for bound, count in counts.items():
        if count >= wanted:
            share = (wanted - reached) / max(1, count - reached)
            return (low + (min(bound, 10.0) - low) * share) * 1e3
        low, reached = bound, count
    raise RuntimeError("no probe was made")


@asynccontextmanager
async def listing(node: Node) -> AsyncIterator[None]:
    """List all pods in a loop."""
    lane = await lanes.lane(node.instance.api_socket)

    async def loop() -> None:
        while True:
            await lane.ask(lanes.request("GET", node.pods))

    task = asyncio.create_task(loop())
    try:
        yield
    finally:
        task.cancel()
        lane.transport.abort()


@contextmanager
def flooding(node: Node) -> Iterator[None]:
    """A container that floods its log."""
    made = node.create("flood", FLOOD)
    node.await_ready({"flood"}, made["metadata"]["resourceVersion"])
    yield
    node.delete({"flood"}, force=True)


@contextmanager
def busy_node(bench: Bench) -> Iterator[Node]:
    """A node with 1,000 pods, 100 of which are probed."""
    with probing.server() as port, fresh_node(f"p{os.getpid():x}") as node:
        node.minipod("image", "build")
        for n in range(bench.few(OTHERS)):
            node.client.request("POST", node.pods, body=refused(f"refused{n}"))
        names, since = {f"probed{n}" for n in range(bench.few(PODS))}, node.version()
        for address, name in zip(probing.ADDRESSES, names, strict=False):
            node.client.request("POST", node.pods, body=probed(name, address, port))
        node.await_ready(names, since)
        yield node


def phases(node: Node, seconds: float) -> dict[str, float]:
    """Return the lateness alone, beside a flood of logs, and beside that and lists; each for so many seconds."""
    prober = node_status(node.instance)["prober_pid"]

    def phase() -> float:
        before = lateness(node)
        time.sleep(seconds)
        return p99(before, lateness(node))

    async def beside_lists() -> float:
        async with listing(node):
            return await asyncio.to_thread(phase)

    cpu, begin = cpu_of(prober), time.perf_counter()
    alone = phase()
    cores = (cpu_of(prober) - cpu) / (time.perf_counter() - begin)
    with flooding(node):
        flooded = phase()
        everything = asyncio.run(beside_lists())
    return {
        "lateness p99, 3,000 a second": alone, "the same, CPU of the prober": cores,
        "lateness p99 beside a flood of logs": flooded,
        "lateness p99 beside that and lists of 1,000 pods": everything,
    }  # fmt: skip


async def execs(node: Node, container: str, count: int) -> dict[str, float]:
    """Return milliseconds of an exec probe: time, and CPU in this process, the supervisor and what it forked."""
    runner, supervisor = ProbeExec(node.instance), node_status(node.instance)["supervisor_pid"]
    await runner.exec_sync(container, ("/bin/true",), 10)
    times, before = [], probing.used() + cpu_of(supervisor)
    for _ in range(count):
        begin = time.perf_counter()
        await runner.exec_sync(container, ("/bin/true",), 10)
        times.append((time.perf_counter() - begin) * 1e3)
    spent = probing.used() + cpu_of(supervisor) - before
    return {EXEC: statistics.median(times), EXEC_CPU: spent / count * 1e3}


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    count = bench.few(20_000, 1_000)
    command = [sys.executable, "-m", "benchmarks.probing", str(count)]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(probing.__file__))}
    with busy_node(bench) as node:
        container = os.listdir(f"{node.instance.run_dir}/containers")[0]

        def once() -> dict[str, float]:
            late = phases(node, 0.5 if bench.quick else SECONDS)
            executed = asyncio.run(execs(node, container, bench.few(100)))
            done = subprocess.run(command, env=environment, capture_output=True, check=True)
            cpu = {f"{kind} probe, CPU": us for kind, us in json.loads(done.stdout).items()}
            return {**cpu, **late, **executed}

        yield once


@contextmanager
def runc(bench: Bench) -> Iterator[Once]:
    """`runc exec`, what an exec probe is elsewhere."""
    with oci.execs("runc")(bench) as one:

        def once() -> dict[str, float]:
            count, before = bench.few(20), os.times()
            took = [one()["by command"] for _ in range(count)]
            after = os.times()
            spent = sum(after[2:4]) - sum(before[2:4])
            return {EXEC: statistics.median(took), EXEC_CPU: spent / count * 1e3}

        yield once


GO = "kubelet's own prober"
ROW = Row(
    title="Probes",
    figures=(
        Figure("http probe, CPU", "us", aim=80, quoted=f"96-109, {GO}"),
        Figure("tcp probe, CPU", "us", aim=45, quoted=f"32-40, {GO}"),
        Figure("lateness p99, 3,000 a second"),
        Figure("the same, CPU of the prober", "cores"),
        Figure("lateness p99 beside a flood of logs"),
        Figure("lateness p99 beside that and lists of 1,000 pods", aim=20),
        Figure(EXEC),
        Figure(EXEC_CPU),
    ),
    sides={"minipod": minipod, "runc": runc},
    runs=3,
    warm=False,
    note="CPU with 64 probes under way, in a process of its own. Lateness on a whole node: 100 pods, each probed by HTTP every 50 ms "
    "and by TCP every 100 ms, 5 s for each figure, from the histogram of /metrics/probes; 900 more pods are there to be "
    "listed. The server that is probed, the flood and the client that lists share the machine's cores with the node.",
)
