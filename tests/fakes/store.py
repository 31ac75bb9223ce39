"""A store in memory with the semantics that the kubelet meets: versions, watch, graceful delete of
pods."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import TYPE_CHECKING, Any

from minipod.api.store import Event
from minipod.errors import AlreadyExists, Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Object = dict[str, Any]
Encoded = list[bytes]


class FakeStore:
    """`minipod.api.store.Store`, nothing on disk."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.writes: list[tuple[str, str, str]] = []  # (verb, resource, name)
        self._log: list[Event] = []
        self._grown = asyncio.Event()

    async def create(self, resource: str, namespace: str, obj: Object) -> Object:
        name = obj["metadata"]["name"]
        if (resource, namespace, name) in self.objects:
            raise AlreadyExists(f'{resource} "{name}" already exists')
        obj = copy.deepcopy(obj)
        obj["metadata"].setdefault("uid", f"uid-{name}")
        self._put("ADDED", resource, namespace, obj)
        return copy.deepcopy(obj)

    async def get(self, resource: str, namespace: str, name: str) -> Object:
        try:
            return copy.deepcopy(self.objects[resource, namespace, name])
        except KeyError:
            raise NotFound(f'{resource} "{name}" not found') from None

    async def list(self, resource: str, namespace: str | None) -> tuple[list[Object], int]:
        found = [
            copy.deepcopy(obj)
            for (kind, space, _), obj in self.objects.items()
            if kind == resource and namespace in (None, space)
        ]
        return found, len(self._log)

    async def encoded(self, resource: str, namespace: str | None) -> tuple[Encoded, int]:
        found, version = await self.list(resource, namespace)
        return [json.dumps(obj).encode() for obj in found], version

    async def update(
        self, resource: str, namespace: str, name: str, obj: Object, subresource: str = ""
    ) -> Object:
        return await self.mutate(resource, namespace, name, lambda _: obj, subresource)

    async def mutate(
        self,
        resource: str,
        namespace: str,
        name: str,
        fn: Callable[[Object], Object | None],
        subresource: str = "",
    ) -> Object:
        old = await self.get(resource, namespace, name)
        new = fn(copy.deepcopy(old))
        if new is None:
            return old
        stored = {**old, "status": new["status"]} if subresource == "status" else new
        self._put("MODIFIED", resource, namespace, copy.deepcopy(stored))
        return stored

    async def delete(
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
        obj = await self.get(resource, namespace, name)
        if uid is not None and obj["metadata"]["uid"] != uid:
            raise Conflict("uid does not match")
        if resource == "pods" and grace_period != 0:
            default = obj.get("spec", {}).get("terminationGracePeriodSeconds", 30)
            grace = grace_period if grace_period is not None else default
            earlier = obj["metadata"].get("deletionGracePeriodSeconds")
            if earlier is not None and (grace_period is None or grace >= earlier):
                return obj
            obj["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            obj["metadata"]["deletionGracePeriodSeconds"] = grace
            self._put("MODIFIED", resource, namespace, obj)
            return obj
        del self.objects[resource, namespace, name]
        self._append("DELETED", resource, namespace, obj)
        return obj

    async def watch(
        self, resource: str, namespace: str | None, since_rv: int, *, patience: float = 0.0
    ) -> AsyncIterator[Event]:
        del patience  # whom a change concerns is told at once
        while True:
            while since_rv < len(self._log):
                event = self._log[since_rv]
                since_rv += 1
                if event.resource == resource and namespace in (None, event.namespace):
                    yield event
            self._grown.clear()
            await self._grown.wait()

    async def flush(self) -> None:
        return

    def _put(self, kind: str, resource: str, namespace: str, obj: Object) -> None:
        obj["metadata"]["resourceVersion"] = str(len(self._log) + 1)
        self.objects[resource, namespace, obj["metadata"]["name"]] = obj
        self._append(kind, resource, namespace, obj)

    def _append(self, kind: str, resource: str, namespace: str, obj: Object) -> None:
        name = obj["metadata"]["name"]
        self.writes.append((kind, resource, name))
        self._log.append(
            Event(
                type=kind,
                resource=resource,
                namespace=namespace,
                name=name,
                rv=len(self._log) + 1,
                data=json.dumps(obj).encode(),
            )
        )
        self._grown.set()
