"""`get pods` on a warm node: ours and kubectl's, both as a person types them."""

from __future__ import annotations

import shutil
import socket
import threading
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


def relay(listener: socket.socket, target: str) -> None:
    """Pass each connection on to the API's unix socket: kubectl speaks TCP only."""
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return  # closed: the row is over
        far = socket.socket(socket.AF_UNIX)
        far.connect(target)
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=copy, args=(one, other), daemon=True).start()


def copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side went first


@contextmanager
def kubectl(bench: Bench) -> Iterator[Once]:
    if shutil.which("kubectl") is None:
        raise Missing("no kubectl on PATH")
    listener = socket.create_server(("127.0.0.1", 0))
    target = bench.node().instance.api_socket
    threading.Thread(target=relay, args=(listener, target), daemon=True).start()
    server = f"http://127.0.0.1:{listener.getsockname()[1]}"
    cache = f"{bench.directory}/kubectl"
    command = ["kubectl", "--kubeconfig", "/dev/null", "--server", server, "--cache-dir", cache]
    try:
        yield lambda: {"get pods": timed([*command, "get", "pods"])}
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


ROW = Row(
    title="get pods on a warm node",
    figures=(Figure("get pods", aim=100),),
    sides={"minipod": minipod, "kubectl": kubectl},
    runs=20,
    note="The same node answers both; kubectl with a warm discovery cache, over a relay from TCP to the unix socket.",
)
