"""The sub-resources of pods that are a verb: binding, eviction."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web  # noqa: TC002 handlers are read at run time

from minipod.api import disruption
from minipod.apiserver import codec, status
from minipod.apiserver.call import Call
from minipod.apiserver.endpoints import delete_options
from minipod.apiserver.query import write_query
from minipod.apiserver.status import ApiError, bad_request
from minipod.apiserver.store_sqlite import SqliteStore

Object = dict[str, Any]


class PodVerbs:
    """Their handlers."""

    def __init__(self, store: SqliteStore, node_name: str) -> None:
        self._store = store
        self._node_name = node_name

    async def evict(self, call: Call) -> web.Response:
        """POST .../eviction: a deletion that could be refused by a disruption budget."""
        body = await _object(call, "Eviction")
        metadata = body.get("metadata") or {}
        if metadata.get("name") not in (None, "", call.info.name):
            raise bad_request("name in URL does not match name in Eviction object")
        options, dry_run = delete_options(body.get("deleteOptions") or {}, call.request.query)
        self._store.raw(call.key)
        if not dry_run:
            resource, namespace, name = call.key

            def mark(pod: Object) -> Object | None:
                if options.uid not in (None, pod["metadata"]["uid"]) or options.resource_version:
                    return None  # the deletion says what is wrong, or would after a change of ours
                return disruption.marked(pod, disruption.EVICTION, time.time())

            await self._store.mutate(resource, namespace, name, mark, "status")
            await self._store.delete(
                resource, namespace, name, grace_period=options.grace_period, uid=options.uid,
                resource_version=options.resource_version, propagation=options.propagation,
            )  # fmt: skip
            await self._store.flush()
        return call.reply(status.success({}), 201)

    async def bind(self, call: Call) -> web.Response:
        """POST .../binding: give a pod its node, once."""
        body = await _object(call, "Binding")
        node = (body.get("target") or {}).get("name")
        name = call.info.name or (body.get("metadata") or {}).get("name") or ""
        options = write_query(call.request.query, "")

        def change(pod: Object) -> Object:
            if pod["spec"].get("nodeName"):
                given = pod["spec"]["nodeName"]
                words = f'pod {name} is already assigned to node "{given}"'
                raise ApiError(
                    409, f'Operation cannot be fulfilled on pods/binding "{name}": {words}'
                )
            if node != self._node_name:
                raise bad_request(f"this node is {self._node_name!r}, and there is no other")
            pod["spec"]["nodeName"] = node
            return pod

        key = ("pods", call.info.namespace, name)
        if options.dry_run:
            change(self._store.load(key))
        else:
            await self._store.mutate(*key, change)
            await self._store.flush()
        return call.reply(status.success({}), 201)


async def _object(call: Call, kind: str) -> Object:
    media = call.request.content_type if call.request.headers.get("Content-Type") else ""
    body = codec.parse(await call.body(), media).value
    if not isinstance(body, dict) or body.get("kind", kind) != kind:
        raise bad_request(f"expected {kind}")
    for name in ("metadata", "target", "deleteOptions"):
        if not isinstance(body.get(name) or {}, dict):
            raise bad_request(f"{name} must be an object")
    return body
