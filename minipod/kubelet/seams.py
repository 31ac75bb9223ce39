"""The kubelet's seams: the store and the node's DNS, as Protocols.

The store is the one of `minipod.api` (in-process, plain dicts); only what the kubelet calls is named here,
so that a fake for a test is forty lines.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from minipod.kubelet.rules.pods import Raw
from minipod.spec.sandbox import DnsConfig

HostDns = Callable[
    [], DnsConfig
]  # the node's resolver, a loopback one replaced by the real upstream


class WatchEvent(Protocol):
    """One change; *type* is ADDED, MODIFIED or DELETED."""

    @property
    def type(self) -> str: ...

    @property
    def object(self) -> dict[str, Any]: ...


class Store(Protocol):
    """Raises NotFound, AlreadyExists, Conflict, Gone of `minipod.errors`."""

    async def create(
        self, resource: str, namespace: str, obj: dict[str, Any]
    ) -> dict[str, Any]: ...

    async def get(self, resource: str, namespace: str, name: str) -> dict[str, Any]: ...

    async def list(self, resource: str, namespace: str | None) -> tuple[list[dict[str, Any]], Any]:
        """Return the items and the resourceVersion to watch from."""

    async def mutate(
        self,
        resource: str,
        namespace: str,
        name: str,
        fn: Callable[[dict[str, Any]], dict[str, Any] | None],
        subresource: str = "",
    ) -> dict[str, Any]:
        """Apply *fn* to a copy, again on a conflict; None from *fn* writes nothing."""

    async def delete(
        self,
        resource: str,
        namespace: str,
        name: str,
        *,
        grace_period: int | None,
        uid: str | None = None,
    ) -> dict[str, Any]: ...

    def watch(self, resource: str, namespace: str | None, since_rv: Any) -> AsyncIterator[Any]:
        """Yield `WatchEvent`s after *since_rv*. Raises Gone when that is too old."""


def pod_key(raw: Raw) -> str:
    """The uid of a raw pod."""
    return str(raw["metadata"]["uid"])
