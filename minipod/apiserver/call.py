"""One request to a resource, and its answer: what every handler gets and how every handler replies."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from minipod.apiserver.disk import Key
from minipod.apiserver.negotiation import JSON, YAML, Wanted
from minipod.apiserver.requestinfo import RequestInfo
from minipod.apiserver.resources import Resource
from minipod.apiserver.status import ApiError, bad_request
from minipod.apiserver.store_sqlite import encode
from minipod.apiserver.table import partial, table

Object = dict[str, Any]

BODY_TIME = 60.0  # seconds that a body may take to come (kube-apiserver's --request-timeout)


@dataclass(slots=True)
class Call:
    """A request that was understood. `warnings` go out as headers of the answer."""

    request: web.Request
    info: RequestInfo
    resource: Resource
    wanted: Wanted
    stored_resource: Resource  # the kind as it is stored: events of both names are v1's
    warnings: list[str] = field(default_factory=list)

    @property
    def key(self) -> Key:
        """The object's place in the store."""
        namespace = self.info.namespace if self.resource.namespaced else ""
        return self.resource.stored_as, namespace, self.info.name

    @property
    def namespace(self) -> str | None:
        """The namespace of a list: None for all of them."""
        return (self.info.namespace or None) if self.resource.namespaced else None

    async def body(self) -> bytes:
        """Read the request's body. Raises ApiError 504 when it does not come, aiohttp's 413 when it is too large."""
        if self.request.content.is_eof():  # it has come: nothing to wait for
            return await self.request.read()
        try:
            async with asyncio.timeout(BODY_TIME):
                return await self.request.read()
        except TimeoutError:
            raise ApiError(
                504, f"the body of the request did not come within {BODY_TIME:g} seconds"
            ) from None

    def stored(self, obj: Object) -> Object:
        """Return *obj*, of this resource's version, as it is stored."""
        return self.resource.to_storage(obj) if self.resource.to_storage else obj

    def served(self, obj: Object) -> Object:
        """Return a stored object in this resource's version."""
        return self.resource.from_storage(obj) if self.resource.from_storage else obj

    def answer(self, obj: Object, code: int = 200) -> web.Response:
        """Answer with one stored object, in the form that was asked for."""
        if self.wanted.form == "Table":
            metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            return self.reply(self.table([obj], metadata), code)
        shown = self.served(obj)
        if self.wanted.form == "PartialObjectMetadata":
            shown = partial(shown, self.wanted.version)
        return self.reply(shown, code)

    def answer_encoded(self, data: bytes, code: int = 200) -> web.Response:
        """Answer with one stored object's bytes: as they are, where nothing else was asked for."""
        plain = self.wanted.form == "" and self.wanted.media == JSON
        if plain and self.resource.from_storage is None:
            return self.raw(data, code)
        return self.answer(json.loads(data), code)

    def table(self, items: list[Object], metadata: Object) -> Object:
        include = self.request.query.get("includeObject", "")
        if include not in ("", "None", "Metadata", "Object"):
            raise bad_request(f'unrecognized includeObject value: "{include[:80]}"')
        return table(self.resource, items, metadata, include=include, version=self.wanted.version)

    def reply(self, body: Object, code: int = 200) -> web.Response:
        """Answer with anything."""
        if self.wanted.media == YAML:
            import yaml  # few clients ask for it

            return self.raw(yaml.safe_dump(body, sort_keys=False).encode(), code, YAML)
        return self.raw(encode(body), code)

    def raw(self, body: bytes, code: int = 200, media: str = JSON) -> web.Response:
        """Answer with bytes that are encoded already."""
        headers = CIMultiDict((("Content-Type", media), ("Cache-Control", "no-cache, private")))
        for words in self.warnings:
            headers.add("Warning", warning(words))
        return web.Response(body=body, status=code, headers=headers)


def warning(words: str) -> str:
    """Return the value of a Warning header: miscellaneous persistent warning, agent unknown (RFC 7234)."""
    return f"299 - {json.dumps(words)}"[:4096]
