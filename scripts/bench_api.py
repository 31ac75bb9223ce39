#!/usr/bin/env python3
"""Figures of the API server and its store: main() prints one line each. A server process of its own, over TLS-less loopback TCP.

    scripts/bench_api.py [FACTOR]      # FACTOR scales the counts (1.0); a smaller one for a quick look

What kube-apiserver 1.20 with etcd 3.4 makes on two cores: creates of 1 KB 373/s serial, 1,023/s with 8 at once; a list of 3,000 objects of
1.3 KB 34 ms; a get 1.2 ms.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import aiohttp

SPACE = "/api/v1/namespaces/default"
MAPS = f"{SPACE}/configmaps"

SERVER = """
import asyncio, os, sys
from aiohttp import web
from minipod.apiserver.app import Api, tell_errors
from minipod.apiserver.store_sqlite import SqliteStore

async def main(path, port_path):
    store = SqliteStore(path)
    store.open()
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    if store.storage.get(("namespaces", "", "default")) is None:
        await store.create("namespaces", "", namespace)
    app = web.Application(middlewares=[tell_errors])
    app.add_routes(Api(store, None, "node").routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], ""))
"""


class Server:
    """A server process over one store; stopped with SIGKILL: the store must bear it."""

    def __init__(self, path: str) -> None:
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER, path], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{self._process.stdout.readline().strip()}"
        self.started_in = time.perf_counter() - begin

    def rss(self) -> float:
        with open(f"/proc/{self._process.pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def cpu(self) -> float:
        with open(f"/proc/{self._process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def config_map(name: str, size: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"k": "x" * size},
    }


def say(what: str, value: float, unit: str) -> None:
    print(f"{what:<60} {value:10.1f} {unit}", flush=True)


async def creates(session: aiohttp.ClientSession, url: str, count: int, lanes: int) -> float:
    """Return durable creates of 1 KB a second."""

    async def lane(number: int) -> None:
        for i in range(count // lanes):
            body = config_map(f"c{lanes}-{number}-{i}", 1024)
            async with session.post(url + MAPS, json=body) as answer:
                assert answer.status == 201, await answer.text()

    begin = time.perf_counter()
    await asyncio.gather(*(lane(n) for n in range(lanes)))
    return count / (time.perf_counter() - begin)


async def timed(session: aiohttp.ClientSession, url: str, times: int) -> float:
    """Return the median of a GET in ms."""
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        async with session.get(url) as answer:
            await answer.read()
        took.append((time.perf_counter() - begin) * 1000)
    return statistics.median(took)


class Watchers(asyncio.Protocol):
    """A connection that watches and counts the bytes of events that came; it does not parse them."""

    def __init__(self, query: str) -> None:
        self._query = query
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(f"GET {MAPS}?{self._query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self.events += data.count(b'"type":"MODIFIED"')


async def watching(
    session: aiohttp.ClientSession, server: Server, watchers: int, changes: int
) -> None:
    """Change one object at up to 1,000 a second for many watchers; say how long after the last change all have heard."""
    loop = asyncio.get_running_loop()
    url = server.url
    async with session.post(url + MAPS, json=config_map("w", 300)) as answer:
        version = (await answer.json())["metadata"]["resourceVersion"]
    port = int(url.rpartition(":")[2])
    query = f"watch=true&resourceVersion={version}"
    members = []
    for _ in range(watchers):
        _, member = await loop.create_connection(lambda: Watchers(query), "127.0.0.1", port)
        members.append(member)
    await asyncio.sleep(0.5)  # all have their answer's head
    begin, cpu = time.perf_counter(), server.cpu()
    patch = {"Content-Type": "application/merge-patch+json"}

    async def lane(number: int) -> None:
        for i in range(changes // 8):
            due = begin + (i * 8 + number) / 1000
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            body = json.dumps({"data": {"k": f"{number}-{i}"}})
            async with session.patch(f"{url}{MAPS}/w", data=body, headers=patch) as answer:
                assert answer.status == 200

    await asyncio.gather(*(lane(n) for n in range(8)))
    written = time.perf_counter()
    # Polling is cheaper here than an event from each of them
    while any(m.events < changes for m in members) and time.perf_counter() < written + 30:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    heard = time.perf_counter()
    say(
        f"{watchers} watchers: changes a second (1,000 were asked for)",
        changes / (written - begin),
        "/s",
    )
    say(
        f"{watchers} watchers: all have heard after the last change", (heard - written) * 1000, "ms"
    )
    say(
        f"{watchers} watchers: events delivered",
        sum(m.events for m in members) / (heard - begin),
        "/s",
    )
    say(
        f"{watchers} watchers: CPU of the server", (server.cpu() - cpu) / (heard - begin) * 100, "%"
    )
    for member in members:
        member.transport.abort()


async def run(factor: float) -> None:
    """Measure everything once."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/store.db"
        server = Server(path)
        say("start, empty", server.started_in * 1000, "ms")
        say("memory, empty", server.rss(), "MB")
        async with aiohttp.ClientSession() as session:
            count = int(2000 * factor)
            say(
                "durable creates of 1 KB, serial",
                await creates(session, server.url, count, 1),
                "/s",
            )
            say(
                "durable creates of 1 KB, 8 at once",
                await creates(session, server.url, count, 8),
                "/s",
            )
            say("get", await timed(session, f"{server.url}{MAPS}/c1-0-1", 500), "ms")
            await watching(session, server, 200, int(4000 * factor))
        server.stop()
        server = Server(f"{folder}/list.db")
        async with aiohttp.ClientSession() as session:
            await fill(session, server.url, 3000)
            say(
                "list of 3,000 objects of 1.3 KB", await timed(session, server.url + MAPS, 20), "ms"
            )
            await fill(session, server.url, 10_000, 3000)
            say("memory with 10,000 objects of 1.3 KB", server.rss(), "MB")
        server.stop()
        server = Server(f"{folder}/list.db")
        say("start with 10,000 objects, after kill -9", server.started_in * 1000, "ms")
        server.stop()


async def fill(session: aiohttp.ClientSession, url: str, until: int, begin: int = 0) -> None:
    """Create objects of about 1.3 KB with their metadata."""

    async def lane(number: int) -> None:
        for i in range(begin + number, until, 16):
            async with session.post(url + MAPS, json=config_map(f"f{i}", 900)) as answer:
                assert answer.status == 201

    await asyncio.gather(*(lane(n) for n in range(16)))


def main() -> None:
    asyncio.run(run(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))


if __name__ == "__main__":
    main()
