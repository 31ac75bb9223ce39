"""What passes through the daemon costs no memory: port-forward, a log and its slow reader. Many commands at once leave nothing.

Measured is the daemon's private memory (/proc/PID/smaps_rollup), before and after; the amount that passes is many times the growth allowed.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import time

import aiohttp
import pytest

from tests.api.test_streams import forwarding, words
from tests.node import shell, sleeper

SIZE = int(os.environ.get("MINIPOD_TEST_STREAM_MB", "96")) << 20  # bytes through one stream
GROWTH = 12 << 20  # bytes: what a bounded buffer here and an allocator's arena there may take

POD = "/api/v1/namespaces/default/pods/pours"
POUR = f"mkdir /www && truncate -s {2 * SIZE} /www/zeros && exec httpd -f -p 7000 -h /www"


@pytest.fixture(scope="module")
def pod(node):
    """A pod that serves zeros without an end that matters."""
    listens = {"tcpSocket": {"port": 7000}, "periodSeconds": 1}
    node.pod("pours", shell(POUR, readinessProbe=listens), sleeper("idle"))
    yield "pours"
    node.delete("pours")


def private(node) -> int:
    """Return the daemon's private memory in bytes."""
    with open(f"/proc/{node.status()['pid']}/smaps_rollup", encoding="ascii") as f:
        return sum(int(line.split()[1]) << 10 for line in f if line.startswith("Private_"))


def take(port: int, size: int) -> float:
    """Take *size* bytes from a local port; return MB/s."""
    begin, left = time.monotonic(), size
    with socket.create_connection(("127.0.0.1", port), timeout=50) as sock:
        sock.sendall(b"GET /zeros HTTP/1.0\r\n\r\n")
        while left > 0:
            chunk = sock.recv(1 << 20)
            assert chunk, f"{left} bytes did not come"
            left -= len(chunk)
    return size / 1e6 / (time.monotonic() - begin)


def forward_is_bounded(node, command: list[str]) -> None:
    with forwarding(command) as (port, _):
        take(port, 1 << 20)
        before = private(node)
        speed = take(port, SIZE)
        grown = private(node) - before
    print(f"port-forward: {speed:.0f} MB/s, {grown >> 10} KiB more")
    assert grown < GROWTH


def test_port_forward_by_kubectl_does_not_grow(newest, node, pod) -> None:
    forward_is_bounded(node, words(newest, "port-forward", "--address", "127.0.0.1", pod, ":7000"))


def test_our_port_forward_does_not_grow(node, pod) -> None:
    forward_is_bounded(
        node, [*node.command, "port-forward", "--address", "127.0.0.1", pod, ":7000"]
    )


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("minipod")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def test_a_slow_reader_of_a_large_log_costs_no_memory(node, pod) -> None:
    """The log is written into its file at once, so that it is there whatever the pump's speed; then read by one who stops at first."""
    made = node.get(pod)
    log = node.containers(made)["idle"]["log"]
    record = b"2026-11-24T10:00:00.000000000Z stdout F " + b"x" * 999 + b"\n"
    with open(log, "wb") as f:
        f.writelines(record * 1000 for _ in range(SIZE // (1 << 20)))
    before = private(node)
    connection = _Unix(node.instance.api_socket)
    connection.request("GET", f"{POD}/log?container=idle")
    answer = connection.getresponse()
    first = answer.read(1 << 16)
    standing = private(node) - before  # the rest waits for us in the file
    size, begin = len(first), time.monotonic()
    while chunk := answer.read(1 << 20):
        size += len(chunk)
    speed = size / 1e6 / (time.monotonic() - begin)
    grown = private(node) - before
    connection.close()
    os.truncate(log, 0)
    print(f"log: {speed:.0f} MB/s, {standing >> 10} KiB while it stands, {grown >> 10} KiB after")
    assert size == SIZE // (1 << 20) * 1000 * 1000
    assert max(standing, grown) < GROWTH


async def test_fifty_commands_at_once_leave_nothing(node, pod) -> None:
    """Each says its own number. Counted are the daemon's descriptors and the container's processes."""

    async def traces() -> tuple[int, int]:
        ps = await said("ps")
        return len(os.listdir(f"/proc/{pid}/fd")), len(ps.splitlines())

    async def said(*command: str) -> bytes:
        query = [("command", word) for word in command] + [("container", "idle"), ("stdout", "1")]
        async with http.ws_connect(
            f"{POD}/exec", params=query, protocols=["v5.channel.k8s.io"]
        ) as ws:
            return b"".join([m.data[1:] async for m in ws if m.data[:1] == b"\x01"])

    pid = node.status()["pid"]
    connector = aiohttp.UnixConnector(node.instance.api_socket, limit=0, force_close=True)
    async with aiohttp.ClientSession("http://minipod", connector=connector) as http:
        before = await traces()
        numbers = await asyncio.gather(*(said("echo", str(n)) for n in range(50)))
        assert numbers == [b"%d\n" % n for n in range(50)]
        async with asyncio.timeout(30):
            while any(n > b for n, b in zip(await traces(), before, strict=True)):  # noqa: ASYNC110 another process closes them
                await asyncio.sleep(0.05)
