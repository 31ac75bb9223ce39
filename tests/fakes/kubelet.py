"""One kubelet over a fake runtime and store, on the loop's (virtual) clock."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager

from minipod.kubelet.kubelet import Kubelet
from minipod.spec.instance import Instance
from minipod.spec.sandbox import DnsConfig
from tests.fakes.runtime import FakeRuntime
from tests.fakes.store import FakeStore

EPOCH = 1_700_000_000.0


def clock() -> float:
    return EPOCH + asyncio.get_running_loop().time()


class Node:
    """One kubelet with its fakes."""

    def __init__(self, tmp_path, runtime: FakeRuntime, store: FakeStore) -> None:
        self.runtime, self.store = runtime, store
        self.kubelet = Kubelet(
            Instance(
                name="unittest",
                run_root=str(tmp_path),
                state_root=str(tmp_path / "state"),
                node_name="node",
            ),
            store,
            runtime,
            runtime,
            clock=clock,
            host_ip="192.0.2.1",
            host_dns=lambda: DnsConfig(servers=("192.0.2.53",)),
            jitter=lambda: 1.0,
        )

    async def apply(self, name: str, **spec) -> None:
        containers = spec.pop("containers", [{"name": "app", "image": "busybox:1.36"}])
        own = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
        metadata = {**own, **spec.pop("metadata", {})}
        await self.store.create(
            "pods", "default", {"metadata": metadata, "spec": {"containers": containers, **spec}}
        )

    def status(self, name: str) -> dict:
        return self.store.objects.get(("pods", "default", name), {}).get("status") or {}

    def container(self, name: str, index: int = 0) -> dict:
        return self.status(name)["containerStatuses"][index]

    def events(self) -> list[tuple[str, str]]:
        return [
            (obj["reason"], obj["message"])
            for (kind, space, _), obj in self.store.objects.items()
            if kind == "events" and obj["involvedObject"]["kind"] == "Pod"
        ]

    async def until(self, condition, limit: float = 3600.0) -> None:
        """Wait; the longer it takes, the coarser the look (virtual seconds cost a loop turn each)."""
        step = 0.01
        async with asyncio.timeout(limit):
            while not condition():
                await asyncio.sleep(step)
                step = min(0.25, step * 1.005)


@asynccontextmanager
async def running(node: Node):
    task = asyncio.ensure_future(node.kubelet.run())
    try:
        yield node
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
