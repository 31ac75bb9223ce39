"""The store's face: Kubernetes objects as plain dicts, versions, watch. `apiserver/` implements it; the kubelet, controllers and
the API server know only this.

`resource` is the plural ("pods"); `namespace` is "" for cluster-scoped kinds. Every write gets the next resourceVersion of one
counter. A returned dict is the caller's own. Watchers in this process hear of a change before it is on disk; who answers a client
waits for `flush` first.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

Object = dict[str, Any]
Objects = list[Object]
Encoded = list[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change. *data* is the object as encoded JSON, encoded once for all watchers; *previous* what it was before."""

    type: str  # ADDED, MODIFIED, DELETED
    resource: str
    namespace: str
    name: str
    rv: int
    data: bytes
    previous: bytes = b""

    @property
    def object(self) -> Object:
        """The object, decoded anew: the caller's own."""
        decoded: Object = json.loads(self.data)
        return decoded


class Store(Protocol):
    """Raises NotFound, AlreadyExists, Conflict, Gone."""

    async def create(self, resource: str, namespace: str, obj: Object) -> Object:
        """Store a new object: uid, creationTimestamp and resourceVersion are set."""

    async def get(self, resource: str, namespace: str, name: str) -> Object:
        """Return one object."""

    async def list(self, resource: str, namespace: str | None) -> tuple[Objects, int]:
        """Return the objects (None: of all namespaces) and the version to watch from."""

    async def encoded(self, resource: str, namespace: str | None) -> tuple[Encoded, int]:
        """Return the same as encoded JSON, not to be changed: for who wants little of many, or decodes them one by one."""

    async def update(
        self, resource: str, namespace: str, name: str, obj: Object, subresource: str = ""
    ) -> Object:
        """Replace it; Conflict unless its resourceVersion is the current one (or not given).

        With subresource "status" only the status is taken from *obj*; with "finalize" (namespaces) only spec.finalizers; without,
        everything but the status. An object that is being deleted goes when its last finalizer goes.
        """

    async def mutate(
        self,
        resource: str,
        namespace: str,
        name: str,
        fn: Callable[[Object], Object | None],
        subresource: str = "",
    ) -> Object:
        """Apply *fn* to a copy and store the result; None writes nothing."""

    async def delete(  # noqa: PLR0913 metav1.DeleteOptions
        self,
        resource: str,
        namespace: str,
        name: str,
        *,
        grace_period: int | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
    ) -> Object:
        """Delete it; one with a grace period (a pod) or finalizers is marked, and goes when these are over.

        *propagation* is Background, Foreground or Orphan: the latter two add the garbage collector's finalizers.
        """

    def watch(
        self, resource: str, namespace: str | None, since_rv: int, *, patience: float = 0.0
    ) -> AsyncIterator[Event]:
        """Yield what happens after *since_rv*. Raises Gone when that is no longer known.

        A change may wait *patience* seconds for the next ones: a reader for whose work nobody waits is then in nobody's way.
        """

    async def flush(self) -> None:
        """Wait until everything written so far is on disk."""
