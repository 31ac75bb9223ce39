"""The end of all pods, before the node's: each within its own grace period, and all within the longest one and a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from minipod.api.store import Store

AFTER_GRACE = 120.0  # seconds for what comes behind the grace periods: an emulated machine with many pods takes most of them
DEFAULT_GRACE = 30.0  # terminationGracePeriodSeconds where a manifest has none


async def stop_pods(store: Store, stop_static: Callable[[], Awaitable[None]]) -> list[str]:
    """Delete every pod; return those that are still there at the end of the time, as namespace/name. *stop_static* ends the static ones.

    What stays has a finalizer that nobody takes off, a hook or a process that hangs in the kernel: `minipod why` tells.
    """
    pods, _ = await store.list("pods", None)
    try:
        async with asyncio.timeout(max(map(_grace, pods), default=0.0) + AFTER_GRACE):
            await stop_static()
            await _delete_all(store)
    except TimeoutError:
        pods, _ = await store.list("pods", None)
        return sorted(f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in pods)
    return []


def _grace(pod: dict[str, Any]) -> float:
    begun: float | None = pod["metadata"].get("deletionGracePeriodSeconds")
    asked: float = pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE)
    return asked if begun is None else max(asked, begun)


async def _delete_all(store: Store) -> None:
    pods, version = await store.list("pods", None)
    left = {pod["metadata"]["uid"] for pod in pods}
    for pod in pods:
        metadata = pod["metadata"]
        await store.delete("pods", metadata["namespace"], metadata["name"], grace_period=None)
    if left:
        async for event in store.watch("pods", None, version):
            if event.type == "DELETED":
                left.discard(event.object["metadata"]["uid"])
            if not left:
                return
