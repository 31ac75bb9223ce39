"""A layer of 10,000 files and 100 MB, gzip, unpacked from an OCI layout: a whole process, on a tmpfs."""

from __future__ import annotations

import gzip
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import bench_unpack

from benchmarks.bench import Bench
from benchmarks.row import Figure, Missing, Once, Row


@contextmanager
def layout(bench: Bench) -> Iterator[str]:
    """A directory with the layout in `gzip`, once for both sides."""
    if bench.quick:
        bench_unpack.FILES, bench_unpack.SIZE = 100, 1_000_000
    raw = bench_unpack.archive()
    with tempfile.TemporaryDirectory(prefix="minipod-bench-", dir="/dev/shm") as here:
        bench_unpack.write_layout(f"{here}/gzip", gzip.compress(raw, 6), raw, "+gzip")
        yield here


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    here = bench.shared("layout", layout)
    target = f"{here}/target"
    command = [sys.executable, bench_unpack.__file__, "--ours", f"{here}/gzip", target]
    yield lambda: {"unpack": bench_unpack.timed(command, target)}


@contextmanager
def umoci(bench: Bench) -> Iterator[Once]:
    if shutil.which("umoci") is None:
        raise Missing("umoci is not installed: scripts/bench --with-peers")
    here = bench.shared("layout", layout)
    target = f"{here}/target"
    command = ["umoci", "raw", "unpack", "--image", f"{here}/gzip:bench", target]
    yield lambda: {"unpack": bench_unpack.timed(command, target)}


ROW = Row(
    title="Unpacking a layer of 10,000 files and 100 MB",
    figures=(Figure("unpack"),),
    sides={"minipod": minipod, "umoci": umoci},
    runs=5,
    note="minipod also copies the blob into its store, fsyncs it and verifies digest and "
    "diff id; `umoci raw unpack` writes no mtree manifest.",
)
