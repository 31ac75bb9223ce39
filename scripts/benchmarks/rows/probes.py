"""CPU of an HTTP and of a TCP probe, and how late they come: 3,000 probes a second against a server on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import bench_probes

from benchmarks.bench import Bench
from benchmarks.row import Figure, Once, Row

# In a process of its own: its scheduling group and its heap are the prober's.
CODE = """
import json, sys, bench_probes as b
count, seconds = int(sys.argv[1]), float(sys.argv[2])
if __name__ == "__main__":
    b.alone()
    with b.server() as port:
        cpu = {f"{kind} probe, CPU": b.cpu(kind, port, count) for kind in ("http", "tcp")}
        paced = b.pace(port, seconds)
    print(json.dumps({**cpu, "lateness p99": paced["lateness p99, ms"]}))
"""


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    count, seconds = bench.few(20_000, 2_000), bench.few(10, 1)
    command = [sys.executable, "-c", CODE, str(count), str(seconds)]
    directory = os.path.dirname(bench_probes.__file__)

    def once() -> dict[str, float]:
        environment = {**os.environ, "PYTHONPATH": directory}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        figures: dict[str, float] = json.loads(done.stdout)
        return figures

    yield once


ROW = Row(
    title="Probes",
    figures=(
        Figure("http probe, CPU", "us", aim=80),
        Figure("tcp probe, CPU", "us", aim=45),
        Figure("lateness p99", "ms", aim=20),
    ),
    sides={"minipod": minipod},
    runs=3,
    note="CPU with 64 probes under way; lateness with 1,000 targets of three probes a second, without other load on "
    "the node. The server is on the same machine. `scripts/bench_probes.py` prints more: exec probes beside `runc exec`, longer runs.",
)
