"""Port-forward and the following of a log: our own client, kubectl, and containerd's streaming server, each through to a container."""

from __future__ import annotations

import itertools
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.bench import MINIPOD, Bench, Node, manifest
from benchmarks.peers import containerd as peer
from benchmarks.peers import podman as podman_peer
from benchmarks.row import Figure, Missing, Once, Row
from benchmarks.rows.logs import LINES, QUICK_LINES, writer

THROUGHPUT, CONNECTIONS = "port-forward, throughput", "port-forward, connections"
FOLLOW = "logs -f while the container writes"
LISTENS = "until wget -q -O /dev/null http://127.0.0.1/small; do sleep 0.1; done"
BIG, QUICK_BIG = 200, 2  # MiB
SILENT = 5.0  # seconds without a byte until a forwarded connection counts as broken
SERVER = "dd if=/dev/zero of=/tmp/big bs=1M count={size} 2>/dev/null; echo ok > /tmp/small; exec httpd -f -p 80 -h /tmp"  # fmt: skip


def server(bench: Bench) -> list[str]:
    """Return the command of a container that serves a large and a small file."""
    return ["sh", "-c", SERVER.format(size=bench.few(BIG, QUICK_BIG))]


def fetch(port: int, name: str) -> int:
    """GET a file and hang up when it is here; return its bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=SILENT) as sock:
        sock.sendall(f"GET /{name} HTTP/1.0\r\n\r\n".encode())
        head, buffer = b"", bytearray(1 << 20)
        while b"\r\n\r\n" not in head:
            if not (data := sock.recv(1 << 16)):
                raise ConnectionError("the forwarded connection ended before an answer came")
            head += data
        head, _, body = head.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].split(None, 1)[0])
        left = size - len(body)
        while left > 0:
            if not (count := sock.recv_into(buffer)):
                raise ConnectionError(f"the forwarded connection ended {left} bytes early")
            left -= count
        return size


def await_served(port: int, size: int) -> None:
    """Return when the container serves the large file whole."""
    deadline = time.monotonic() + 20
    while True:
        try:
            if fetch(port, "small") and fetch(port, "big") == size << 20:
                return
        except OSError:
            pass  # its server does not listen yet
        if time.monotonic() > deadline:
            raise RuntimeError("nothing is served through the forwarded port")
        time.sleep(0.02)


def forwarded(port: int, bench: Bench) -> dict[str, float]:
    """Return MB/s of one connection, and connections a second one after another."""
    begin = time.perf_counter()
    moved = fetch(port, "big")
    took = time.perf_counter() - begin
    count, begin = bench.few(100), time.perf_counter()
    for _ in range(count):
        fetch(port, "small")
    return {
        THROUGHPUT: moved / 1e6 / took, CONNECTIONS: count / (time.perf_counter() - begin),
    }  # fmt: skip


@contextmanager
def forwarding(command: list[str]) -> Iterator[int]:
    """Run a `port-forward ... :80`; yield the local port, which it tells first."""
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None
        said = started.stdout.readline()
        found = re.search(r":(\d+) ->", said)
        if found is None:
            raise RuntimeError(f"{' '.join(command)}: {said!r}")
        yield int(found[1])
    finally:
        started.terminate()
        started.communicate()


def followed(start: Callable[[], list[str]], lines: int) -> float:
    """Start a writer, run the command that follows it until its last line; return MB/s of the container's bytes."""
    begin = time.perf_counter()
    process = subprocess.Popen(start(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        tail = b""
        while not tail.endswith(b"the end\n"):
            data = process.stdout.read1(1 << 20)  # type: ignore[attr-defined]
            if not data:
                raise RuntimeError(f"the log ended with {tail!r}")
            tail = (tail + data)[-20:]
        return lines * 100 / 1e6 / (time.perf_counter() - begin)
    finally:
        process.terminate()
        process.communicate()


def on_our_node(bench: Bench, side: str, client: Callable[[Node], list[str]]) -> Iterator[Once]:
    """Measure a client of our node."""
    node, numbers = bench.node(), itertools.count()
    lines, name = bench.few(LINES, QUICK_LINES), f"served-{side}"
    pod = manifest(name, server(bench))
    # kubectl's connection does not survive a port that is refused.
    pod["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 80}}
    made = node.client.request("POST", node.pods, body=pod)
    node.await_ready({name}, made["metadata"]["resourceVersion"])

    def write() -> list[str]:
        writing = f"{side}-writer{next(numbers)}"
        begun = node.create(writing, writer(lines))
        node.await_ready({writing}, begun["metadata"]["resourceVersion"])
        return [*client(node), "logs", "-f", writing]

    with forwarding([*client(node), "port-forward", name, ":80"]) as port:
        await_served(port, bench.few(BIG, QUICK_BIG))

        def once() -> dict[str, float]:
            figures = {**forwarded(port, bench), FOLLOW: followed(write, lines)}
            node.delete({f"{side}-writer{n}" for n in (written(node, side))}, force=True)
            return figures

        yield once
    node.delete({name}, force=True)


def written(node: Node, side: str) -> list[str]:
    """Return the numbers of the writers that are there."""
    names = [p["metadata"]["name"] for p in node.client.request("GET", node.pods)["items"]]
    start = f"{side}-writer"
    return [name.removeprefix(start) for name in names if name.startswith(start)]


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    yield from on_our_node(bench, "minipod", lambda n: [MINIPOD, "--instance", n.instance.name])


@contextmanager
def kubectl(bench: Bench) -> Iterator[Once]:
    if shutil.which("kubectl") is None:
        raise Missing("no kubectl on PATH")
    yield from on_our_node(bench, "kubectl", lambda n: n.kubectl)


@contextmanager
def containerd(bench: Bench) -> Iterator[Once]:
    daemon = peer.shared(bench)
    sandbox, container = daemon.pod(server(bench))
    daemon.cri.call("ExecSync", {1: container, 2: ["sh", "-c", LISTENS], 3: 20})
    with peer.forwarding(daemon, sandbox) as port:
        await_served(port, bench.few(BIG, QUICK_BIG))
        yield lambda: forwarded(port, bench)
    daemon.remove(sandbox)  # at once: its server does not hear SIGTERM


@contextmanager
def podman(bench: Bench) -> Iterator[Once]:
    program: podman_peer.Podman = bench.shared("podman", podman_peer.running)
    lines = bench.few(LINES, QUICK_LINES)

    def once() -> dict[str, float]:
        paths: list[str] = []

        def write() -> list[str]:
            path, _ = program.play(writer(lines))
            paths.append(path)
            return [*program.base, "logs", "-f", program.container(path)]

        took = followed(write, lines)
        program.down(paths[0])
        return {FOLLOW: took}

    yield once


ROW = Row(
    title="Streams: port-forward, logs -f",
    figures=(Figure(THROUGHPUT, "MB/s"), Figure(CONNECTIONS, "/s"), Figure(FOLLOW, "MB/s")),
    sides={"minipod": minipod, "kubectl": kubectl, "containerd": containerd, "podman": podman},
    runs=5,
    note="minipod and kubectl are clients of the same node, ours over its unix socket, kubectl over TLS. containerd: our "
    "client's SPDY connection to its streaming server, without a kubelet between. A file of 200 MiB through one connection; "
    "connections one after another, each with an HTTP request. logs -f: 500,000 lines of 100 bytes, from the creation of the pod "
    "(podman: from `kube play`) to the last line.",
)
