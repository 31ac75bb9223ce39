"""/bin/true in a running container: over the API, as the command that a person types, and by kubectl."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import MINIPOD, Bench, timed
from benchmarks.peers import containerd, oci, podman
from benchmarks.row import Figure, Once, Row
from minipod.cli.channels import run_channels


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    node = bench.node()
    made = node.create("exec")
    node.await_ready({"exec"}, made["metadata"]["resourceVersion"])
    target = node.client.path("pods", "default", "exec", "exec")
    query = [("command", "/bin/true"), ("stdout", "true")]
    words = ["exec", "exec", "--", "/bin/true"]
    commands = {"by command": [MINIPOD, "--instance", node.instance.name, *words]}
    if shutil.which("kubectl"):
        commands["by kubectl"] = [*node.kubectl, *words]

    def once() -> dict[str, float]:
        begin = time.perf_counter()
        run_channels(node.instance.api_socket, target, query, stdin=False, tty=False)
        by_api = (time.perf_counter() - begin) * 1e3
        return {"by API": by_api, **{name: timed(words) for name, words in commands.items()}}

    yield once
    node.delete({"exec"}, force=True)


ROW = Row(
    title="exec of /bin/true in a running container",
    figures=(Figure("by API", aim=3), Figure("by command"), Figure("by kubectl")),
    sides={
        "minipod": minipod,
        "containerd": containerd.execs,
        "runc": oci.execs("runc"),
        "crun": oci.execs("crun"),
        "podman": podman.execs,
    },
    runs=40,
    note="By API: minipod over a WebSocket of the pods/exec subresource, containerd by ExecSync; connecting is part of the first only. "
    "By command: `minipod exec`, `runc exec`, `crun exec`, `podman exec`, with the start of the program. By kubectl: over TLS.",
)
