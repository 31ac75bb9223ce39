"""A layer of 10,000 files and 100 MB, gzip, unpacked from an OCI layout: a whole process, on a tmpfs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import layers
from benchmarks.bench import Bench, timed
from benchmarks.peers import containerd as peer
from benchmarks.row import Figure, Missing, Once, Row


@contextmanager
def layout(bench: Bench) -> Iterator[str]:
    """A directory with the layout in `layout` and as an archive, once for all sides."""
    here = f"{bench.memory()}/unpack"
    raw = layers.archive(100, 1_000_000) if bench.quick else layers.archive()
    layers.write_layout(f"{here}/layout", raw)
    subprocess.run(["tar", "-C", f"{here}/layout", "-cf", f"{here}/layout.tar", "."], check=True)
    try:
        yield here
    finally:
        shutil.rmtree(here)


def removed(command: list[str], target: str) -> float:
    """Return the milliseconds of a command; what it has made is removed."""
    try:
        return timed(command)
    finally:
        shutil.rmtree(target, ignore_errors=True)


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    here = bench.shared("layout", layout)
    target = f"{here}/target"
    command = [sys.executable, "-m", "benchmarks.layers", f"{here}/layout", target]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(layers.__file__))}

    def once() -> dict[str, float]:
        took = timed(command, env=environment)
        shutil.rmtree(target)
        return {"unpack": took}

    yield once


@contextmanager
def umoci(bench: Bench) -> Iterator[Once]:
    if shutil.which("umoci") is None:
        raise Missing("umoci is not installed: scripts/bench --with-peers")
    here = bench.shared("layout", layout)
    target = f"{here}/target"
    command = ["umoci", "raw", "unpack", "--image", f"{here}/layout:bench", target]
    yield lambda: {"unpack": removed(command, target)}


@contextmanager
def containerd(bench: Bench) -> Iterator[Once]:
    daemon = peer.in_memory(bench)
    archive = f"{bench.shared('layout', layout)}/layout.tar"
    yield lambda: {"unpack": daemon.bring_in(layers.NAME, "import", archive)}


ROW = Row(
    title="Unpacking a layer of 10,000 files and 100 MB",
    figures=(Figure("unpack"),),
    sides={"minipod": minipod, "umoci": umoci, "containerd": containerd},
    runs=7,
    note="minipod and containerd (`ctr images import`) also copy the blob into their stores and verify digest and "
    "diff id; `umoci raw unpack` writes no mtree manifest. minipod's and umoci's figures have the start of the process in them.",
)
