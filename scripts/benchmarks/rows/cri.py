"""The CRI's verbs: the same client, calls and messages for `minipod cri` and containerd."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import MINIPOD, Bench
from benchmarks.peers import containerd, cri
from benchmarks.row import Figure, Missing, Once, Row
from minipod import config
from minipod.daemon.node import reset_node, start_node


@contextmanager
def minipod(_: Bench) -> Iterator[Once]:
    if importlib.util.find_spec("grpclib") is None:
        raise Missing("grpclib is not installed: scripts/setup --dev")
    found = config.load(name=f"i{os.getpid():x}").instance
    instance = dataclasses.replace(found, face="cri")
    try:
        start_node(instance)
        build = [MINIPOD, "--instance", instance.name, "image", "build"]
        subprocess.run(build, check=True, capture_output=True)
        engine = cri.Engine(instance.cri_socket, f"{instance.state_dir}/log")
        engine.connect()
        try:
            yield engine.verbs
        finally:
            engine.remove_all()
            engine.cri.close()
    finally:
        reset_node(instance)


ROW = Row(
    title="The CRI's verbs",
    figures=tuple(map(Figure, (cri.RUN, cri.EXEC, cri.CYCLE, cri.STOP))),
    sides={"minipod": minipod, "containerd": containerd.verbs},
    runs=30,
    note="Asked for by one gRPC client, one call after another, over one connection that is there. The pod's app exits on SIGTERM.",
)
