"""metrics.k8s.io: the CPU and memory that nodes, pods and containers use, from their cgroups, when somebody asks.

CPU is a rate: it takes two samples. An answer compares with the sample of an earlier one, if that is between a second and a minute
old, else it takes two, a second apart; who asks within a second gets the same answer. Nothing is measured while nobody asks (metrics-server
measures all the time, every 15 s).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from minipod.api import selectors
from minipod.api.meta import now
from minipod.api.store import Object, Store
from minipod.apiserver.call import Call
from minipod.apiserver.kinds.metrics import GROUP
from minipod.errors import NotFound

if TYPE_CHECKING:
    from aiohttp import web

    from minipod.apiserver.app import Handler

SHORTEST, LONGEST = 1.0, 60.0  # seconds between two samples


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time used until now in nanoseconds, and memory that can't be reclaimed easily in bytes (the working set)."""

    cpu_ns: int
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the node and its running containers have used; *at* by the monotonic clock."""

    at: float
    node: Usage
    containers: Mapping[tuple[str, str], Usage]  # by the pod's uid and the container's name


class UsageSource(Protocol):
    """What the daemon offers."""

    async def sample(self) -> Sample:
        """Measure now."""


class Metrics:
    """The handlers."""

    def __init__(self, store: Store, source: UsageSource, node_name: str) -> None:
        self._store = store
        self._source = source
        self._node_name = node_name
        self._last: Window | None = None
        self._lock = asyncio.Lock()  # two who ask at once share their samples

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """Return them by target and verb."""
        return {
            (f"nodes.{GROUP}", "get"): self.node,
            (f"nodes.{GROUP}", "list"): self.nodes,
            (f"pods.{GROUP}", "get"): self.pod,
            (f"pods.{GROUP}", "list"): self.pods,
        }

    async def node(self, call: Call) -> web.Response:
        """GET nodes/NAME."""
        if call.info.name != self._node_name:
            raise NotFound(f'nodes.{GROUP} "{call.info.name}" not found')
        return call.reply(self._node(await self._window()))

    async def nodes(self, call: Call) -> web.Response:
        """GET nodes."""
        node = await self._store.get("nodes", "", self._node_name)
        chosen = _selected(call, [node])
        window = await self._window() if chosen else None
        return call.reply(_list("NodeMetricsList", [self._node(window)] if window else []))

    async def pod(self, call: Call) -> web.Response:
        """GET pods/NAME."""
        pod = await self._store.get("pods", call.info.namespace, call.info.name)
        made = _pod(pod, await self._window())
        if made is None:
            raise NotFound(f'pods.{GROUP} "{call.info.namespace}/{call.info.name}" not found')
        return call.reply(made)

    async def pods(self, call: Call) -> web.Response:
        """GET pods."""
        pods, _ = await self._store.list("pods", call.info.namespace or None)
        window = await self._window()
        made = [_pod(pod, window) for pod in _selected(call, pods)]
        return call.reply(_list("PodMetricsList", [m for m in made if m is not None]))

    def _node(self, window: Window) -> Object:
        metadata = {"name": self._node_name, "creationTimestamp": now()}
        usage = window.usage(window.first.node, window.second.node)
        return _object("NodeMetrics", metadata, window) | {"usage": usage}

    async def _window(self) -> Window:
        async with self._lock:
            last = self._last
            if last is not None and time.monotonic() - last.second.at < SHORTEST:
                return last
            second = await self._source.sample()
            first = last.second if last is not None else second
            if not SHORTEST <= second.at - first.at <= LONGEST:
                first = second
                await asyncio.sleep(SHORTEST)
                second = await self._source.sample()
            self._last = Window(first, second)
            return self._last


@dataclass(frozen=True, slots=True)
class Window:
    """Two samples."""

    first: Sample
    second: Sample

    @property
    def seconds(self) -> float:
        return self.second.at - self.first.at

    def usage(self, before: Usage | None, after: Usage) -> dict[str, str]:
        """Return the quantities; a container that started in between has run for the window at most."""
        spent = after.cpu_ns - (before.cpu_ns if before is not None else 0)
        return {
            "cpu": f"{max(0, int(spent / self.seconds))}n",
            "memory": f"{after.memory // 1024}Ki",
        }


def _pod(pod: Object, window: Window) -> Object | None:
    """Return what a pod uses, None when none of its containers runs."""
    uid = pod["metadata"]["uid"]
    containers = [
        {"name": name, "usage": window.usage(window.first.containers.get((uid, name)), usage)}
        for (owner, name), usage in sorted(window.second.containers.items())
        if owner == uid
    ]
    if not containers:
        return None
    kept = ("name", "namespace", "labels")
    metadata = {k: pod["metadata"][k] for k in kept if k in pod["metadata"]}
    made = _object("PodMetrics", {**metadata, "creationTimestamp": now()}, window)
    return made | {"containers": containers}


def _object(kind: str, metadata: Object, window: Window) -> Object:
    return {
        "kind": kind, "apiVersion": f"{GROUP}/v1beta1", "metadata": metadata,
        "timestamp": now(), "window": f"{window.seconds:.3f}s",
    }  # fmt: skip


def _list(kind: str, items: list[Object]) -> Object:
    return {"kind": kind, "apiVersion": f"{GROUP}/v1beta1", "metadata": {}, "items": items}


def _selected(call: Call, objects: list[Object]) -> list[Object]:
    query: Any = call.request.query
    for name, parse in (
        ("labelSelector", selectors.label_selector),
        ("fieldSelector", selectors.field_selector),
    ):
        if text := query.get(name):
            fits = parse(text)
            objects = [o for o in objects if fits(o)]
    return objects
