"""The API of a real node with its store: durable creates, lists, gets, watchers, 10,000 objects. See `lanes` for the client."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import lanes
from benchmarks.bench import IMAGE, Bench, Node, cpu_of, fresh_node, pss
from benchmarks.row import Figure, Once, Row
from minipod.daemon.node import node_status, start_node

OBJECTS, LISTED, PODS = 10_000, 3_000, 1_000
WATCHERS, CHANGES = 200, 1_000  # changes a second
ETCD = "kube-apiserver 1.20 with etcd"


def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


def config_map(name: str, size: int) -> dict[str, Any]:
    """Return a ConfigMap of *size* bytes of data; its metadata are some 400 more when it is stored."""
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "x" * size},
    }  # fmt: skip


def refused(name: str) -> dict[str, Any]:
    """Return a pod that the node refuses (OutOfcpu): an object of a pod's size in the API, and nothing that runs."""
    container = {
        "name": "c", "image": IMAGE, "command": ["sleep", "1000"],
        "resources": {"requests": {"cpu": "1000"}},
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
    }  # fmt: skip
    labels = {"app": "web", "tier": "front"}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [container]},
    }  # fmt: skip


class Api:
    """The measured node, and how much of everything there is."""

    def __init__(self, node: Node, bench: Bench) -> None:
        self.node, self.few = node, bench.few
        self.socket = node.instance.api_socket
        self._serial = 0

    async def fill(self) -> None:
        """Make what lists and starts are measured with."""
        for name in ("list", "rest", "new"):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self.node.client.request("POST", "/api/v1/namespaces", body=body)
        listed, pods = self.few(LISTED, 30), self.few(PODS, 10)
        rest = self.few(OBJECTS - LISTED - PODS, 10)
        for namespace, count in (("list", listed), ("rest", rest)):
            bodies = (config_map(f"f{n}", 900) for n in range(count))
            await self.send(maps(namespace), bodies)
        await self.send(self.node.pods, (refused(f"p{n}") for n in range(pods)))
        while b'"phase":"Pending"' in await self.get(self.node.pods):  # noqa: ASYNC110 once, unmeasured
            await asyncio.sleep(0.2)

    async def send(self, path: str, bodies: Any, at_once: int = 8) -> float:
        """POST all of them; return the seconds."""
        return await lanes.at_once(
            self.socket, [lanes.request("POST", path, body) for body in bodies], at_once
        )

    async def get(self, path: str) -> bytes:
        lane = await lanes.lane(self.socket)
        try:
            return await lane.ask(lanes.request("GET", path))
        finally:
            lane.transport.close()

    async def creates(self, count: int, at_once: int) -> float:
        """Return durable creates a second."""
        self._serial += 1
        bodies = [config_map(f"c{self._serial}-{n}", 1024) for n in range(count)]
        return count / await self.send(maps("new"), bodies, at_once)

    async def gets(self, path: str, count: int) -> float:
        """Return the median of some GETs in ms."""
        lane, sent, took = await lanes.lane(self.socket), lanes.request("GET", path), []
        for _ in range(count):
            begin = time.perf_counter()
            await lane.ask(sent)
            took.append((time.perf_counter() - begin) * 1e3)
        lane.transport.close()
        return statistics.median(took)

    async def watched(self, changes: int) -> dict[str, float]:
        """Change one object at up to CHANGES a second before WATCHERS watchers."""
        loop, path = asyncio.get_running_loop(), f"{maps('new')}/watched"
        made = self.node.client.request("POST", maps("new"), body=config_map("watched", 300))
        version = made["metadata"]["resourceVersion"]
        sent = lanes.request("GET", f"{maps('new')}?watch=true&resourceVersion={version}")
        members = []
        for _ in range(self.few(WATCHERS)):
            _, member = await loop.create_unix_connection(lambda: lanes.Watcher(sent), self.socket)
            await member.started  # a full backlog makes asyncio's connect to a unix socket succeed without a connection
            members.append(member)
        daemon = node_status(self.node.instance)["pid"]
        cpu, begin = cpu_of(daemon), time.perf_counter()
        await self._change(path, changes)
        written = time.perf_counter()
        # A future for each of the watchers would cost more than this.
        while any(m.events < changes for m in members):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        heard = time.perf_counter()
        for member in members:
            member.transport.abort()
        return {
            "200 watchers: changes": changes / (written - begin),
            "200 watchers: all have heard the last": (heard - written) * 1e3,
            "200 watchers: CPU of the daemon": (cpu_of(daemon) - cpu) / (heard - begin),
        }

    async def _change(self, path: str, changes: int) -> None:
        begin, numbers = time.perf_counter(), iter(range(changes))

        async def drive(lane: lanes.Lane) -> None:
            for n in numbers:
                ahead = begin + n / CHANGES - time.perf_counter()
                if ahead > 0:
                    await asyncio.sleep(ahead)
                await lane.ask(lanes.request("PATCH", path, {"data": {"k": str(n)}}, lanes.MERGE))
            lane.transport.close()

        await asyncio.gather(*[drive(await lanes.lane(self.socket)) for _ in range(8)])


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    with fresh_node(f"a{os.getpid():x}") as node:
        api = Api(node, bench)
        asyncio.run(api.fill())

        def once() -> dict[str, float]:
            figures = asyncio.run(measure(api))
            node.client.request("DELETE", maps("new"))
            daemon = node_status(node.instance)["pid"]
            figures["memory of the daemon, 10,000 objects"] = pss([daemon]) / 1e6
            node.minipod("down", "--keep-pods")  # without it, down deletes them
            begin = time.perf_counter()
            start_node(node.instance)
            return {**figures, "start, 10,000 objects": (time.perf_counter() - begin) * 1e3}

        yield once


async def measure(api: Api) -> dict[str, float]:
    few = api.few
    return {
        "durable creates of 1 KB, one after another": await api.creates(few(1000, 10), 1),
        "durable creates of 1 KB, 8 at once": await api.creates(few(2000, 16), 8),
        "get": await api.gets(f"{maps('list')}/f1", few(300)),
        "list of 3,000 objects of 1.3 KB": await api.gets(maps("list"), few(20)),
        "list of 1,000 pods": await api.gets(api.node.pods, few(20)),
        **await api.watched(few(3000, 20)),
    }


ROW = Row(
    title="The API and its store",
    figures=(
        Figure("durable creates of 1 KB, one after another", "/s", aim=370, quoted=f"373, {ETCD}"),
        Figure("durable creates of 1 KB, 8 at once", "/s", aim=1020, quoted=f"1,023, {ETCD}"),
        Figure("get", aim=1.2, quoted=f"1.2, {ETCD}"),
        Figure("list of 3,000 objects of 1.3 KB", aim=35, quoted=f"34, {ETCD}, from its cache"),
        Figure("list of 1,000 pods"),
        Figure("200 watchers: changes", "/s", aim=1000),
        Figure("200 watchers: all have heard the last"),
        Figure("200 watchers: CPU of the daemon", "cores"),
        Figure("start, 10,000 objects", aim=1000, quoted="4,600, kube-apiserver with etcd"),
        Figure("memory of the daemon, 10,000 objects", "MB", quoted="368, kube-apiserver and etcd"),
    ),
    sides={"minipod": minipod},
    runs=5,
    warm=False,
    note="A whole node answers, over its unix socket, to a client that costs little. A create is answered when it is on the disk. "
    "10,000 objects: 9,000 ConfigMaps of 1.3 KB and 1,000 pods, which the node has refused. The 200 watchers are asked for 1,000 "
    "changes of one object a second. kube-apiserver and etcd are not in Debian 12.",
)
