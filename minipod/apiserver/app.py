"""From a request to its handler: what it is about (`requestinfo`), which kind, which verb; every error as a metav1.Status.

Middlewares come between `tell_errors`, which also finds out what the request is about (request["info"]), and the handlers:
authentication and authorization have their place there. `Api.handlers` holds what is not generic, by target and verb ("pods/log", "get").
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from minipod import errors
from minipod.apiserver import requestinfo, status
from minipod.apiserver.admission import Admission
from minipod.apiserver.call import Call
from minipod.apiserver.codec import BODY_MAX
from minipod.apiserver.discovery import VERSION, Discovery
from minipod.apiserver.endpoints import Endpoints
from minipod.apiserver.fanout import Fanout
from minipod.apiserver.negotiation import negotiate
from minipod.apiserver.openapi import OpenApi
from minipod.apiserver.pod_streams import PodStreams
from minipod.apiserver.query import list_query
from minipod.apiserver.requestinfo import RequestInfo
from minipod.apiserver.resources import Resource
from minipod.apiserver.scale import ScaleVerbs
from minipod.apiserver.selecting import select
from minipod.apiserver.status import ApiError, bad_request, not_allowed, not_found
from minipod.apiserver.store_sqlite import SqliteStore, encode
from minipod.apiserver.streams import NodeStreams
from minipod.apiserver.subresources import PodVerbs
from minipod.apiserver.watching import Watch

logger = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[web.StreamResponse]]
HEALTH = ("healthz", "readyz", "livez")
KNOWN_MAX: Final = 1 << 10  # bytes of a path that is kept
TEXTS = ("log", "proxy")  # what answers in a form of its own, whatever is accepted
GENERIC_PARTS = ("", "status", "finalize", "ephemeralcontainers", "resize", "approval")


class Api:
    """The dispatch. *handlers* adds to or replaces the built-in ones."""

    def __init__(
        self,
        store: SqliteStore,
        streams: NodeStreams,
        node_name: str,
        handlers: Mapping[tuple[str, str], Handler] | None = None,
    ) -> None:
        self._store = store
        self._fanout = Fanout(store.storage)
        self._discovery = Discovery(store.registry)
        self._openapi = OpenApi(store.registry)
        self.endpoints = Endpoints(store, Admission(store, node_name))
        self._scale = ScaleVerbs(store)
        self.closing = asyncio.Event()
        pods, verbs = PodStreams(store, streams), PodVerbs(store, node_name)
        self.handlers: dict[tuple[str, str], Handler] = {
            ("pods/log", "get"): pods.log,
            ("pods/exec", "get"): pods.exec,
            ("pods/exec", "create"): pods.exec,
            ("pods/attach", "get"): pods.attach,
            ("pods/attach", "create"): pods.attach,
            ("pods/portforward", "get"): pods.port_forward,
            ("pods/portforward", "create"): pods.port_forward,
            ("pods/eviction", "create"): verbs.evict,
            ("pods/binding", "create"): verbs.bind,
            ("bindings", "create"): verbs.bind,
            **(handlers or {}),
        }

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/version", self._version),
            *(web.get(f"/{name}", self._healthy) for name in HEALTH),
            *(web.get(f"/{name}/ping", self._healthy) for name in HEALTH),
            web.get("/", self._paths),
            web.route("*", "/{path:.*}", self._dispatch),
        ]

    async def _version(self, _: web.Request) -> web.Response:
        return web.Response(body=encode(VERSION), content_type="application/json")

    async def _healthy(self, request: web.Request) -> web.Response:
        """Who answers at all is well: that is the check called ping."""
        text = "ok"
        if "verbose" in request.query and not request.path.endswith("/ping"):
            text = f"[+]ping ok\n{request.path.strip('/')} check passed\n"
        return web.Response(text=text)

    async def _paths(self, _: web.Request) -> web.Response:
        health = [path for name in HEALTH for path in (f"/{name}", f"/{name}/ping")]
        found = [*self._discovery.paths(), *health, "/openapi/v2", "/openapi/v3", "/version"]
        return web.Response(body=encode({"paths": sorted(found)}), content_type="application/json")

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        info: RequestInfo = request["info"]
        if not info.is_resource:
            if request.method not in ("GET", "HEAD"):
                raise not_found()
            parts = request["parts"]
            if parts[:1] == ("openapi",):
                return self._openapi.answer(request, parts[1:])
            return self._discovery.answer(request, parts)
        resource = self._store.registry.find(info.group, info.version, info.resource)
        if resource is None or (info.rest and info.subresource != "proxy"):
            raise not_found()
        handler = self._handler(resource, info)
        self._check_scope(resource, info)
        accept = "" if info.subresource in TEXTS else request.headers.get("Accept", "")
        wanted = negotiate(accept)
        stored = self._store.registry.stored(resource.stored_as) or resource
        return await handler(Call(request, info, resource, wanted, stored))

    def _handler(self, resource: Resource, info: RequestInfo) -> Handler:
        target = f"{info.target}.{info.group}" if info.group else info.target
        found = self.handlers.get((target, info.verb))
        if found is not None:
            return found
        if info.subresource == "scale" and resource.subresource("scale"):
            found = {
                "get": self._scale.get,
                "update": self._scale.update,
                "patch": self._scale.patch,
            }.get(info.verb)
            if found is None:
                raise not_allowed()
            return found
        if info.subresource:
            part = resource.subresource(info.subresource)
            if part is None:
                raise not_found()
            if info.verb not in part.verbs:
                raise not_allowed()
            if info.subresource not in GENERIC_PARTS:
                raise ApiError(501, f"{info.target} is not supported yet", reason="NotImplemented")
        elif info.verb not in resource.verbs:
            raise not_allowed()
        generic: dict[str, Handler] = {
            "create": self.endpoints.create, "get": self.endpoints.get, "list": self.endpoints.list,
            "watch": self._watch, "update": self.endpoints.update, "patch": self.endpoints.patch,
            "delete": self.endpoints.delete, "deletecollection": self.endpoints.delete_collection,
        }  # fmt: skip
        return generic[info.verb]

    def _check_scope(self, resource: Resource, info: RequestInfo) -> None:
        """A namespaced kind is written below its namespace; a cluster's kind is never below one."""
        if resource.namespaced and not info.namespace and info.verb not in ("list", "watch"):
            raise not_allowed() if info.verb in ("create", "deletecollection") else not_found()
        if not resource.namespaced and info.namespace and info.resource != "namespaces":
            raise not_found()
        if not info.subresource and (
            (info.verb == "create" and info.name)
            or (info.verb in ("update", "patch") and not info.name)
        ):
            raise not_allowed()
        for name in (info.name, info.namespace):
            if name in (".", "..") or "/" in name or "\0" in name:
                raise not_found()

    async def _watch(self, call: Call) -> web.StreamResponse:
        query = list_query(call.request.query)
        watch = Watch(self._store, self._fanout, call, query, select(call.resource, query))
        return await watch.serve(self.closing)


@web.middleware
async def tell_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Find out what a request is about, and answer every error as a metav1.Status."""
    info: RequestInfo | None = None
    try:
        parts, info = _about(request)
        request["parts"], request["info"] = parts, info
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        answer = status.failure(
            ApiError(413, f"Request entity too large: limit is {BODY_MAX}"), info
        )
    except web.HTTPException as e:
        if e.status < 400:
            raise
        message = status.NO_RESOURCE if e.status == 404 else str(e.reason)
        answer = status.failure(ApiError(e.status, message), info)
    except errors.MinipodError as e:
        answer = status.failure(e, info)
        if token := getattr(e, "token", ""):
            answer["metadata"]["continue"] = token
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as e:
        logger.exception("%s %s", request.method, request.path)
        answer = status.failure(e, info)
    return _tell(answer)


def _tell(answer: dict[str, Any]) -> web.Response:
    headers = {"Content-Type": "application/json"}
    if seconds := answer.get("details", {}).get("retryAfterSeconds"):
        headers["Retry-After"] = str(seconds)
    # Words of the request are in it, and a header may hold bytes that are no text.
    body = json.dumps(answer, ensure_ascii=False).encode(errors="replace")
    return web.Response(body=body, status=answer["code"], headers=headers)


def _about(request: web.Request) -> tuple[tuple[str, ...], RequestInfo]:
    """Return the path's segments, and what a request is about. Raises ApiError 400."""
    method, path = request.method, request.rel_url.raw_path
    known = _of_path if len(path) <= KNOWN_MAX else _of_path.__wrapped__
    parts, info = known(method, path)
    if info.is_resource and not info.name:  # the query may have a say
        info = requestinfo.parse(method, parts, request.query)
    return parts, info


@lru_cache(maxsize=256)
def _of_path(method: str, path: str) -> tuple[tuple[str, ...], RequestInfo]:
    """Of a request without a query; most clients ask for the same things again and again."""
    parts = _parts(path)
    return parts, requestinfo.parse(method, parts, {})


def _parts(path: str) -> tuple[str, ...]:
    """Return the path's segments, each decoded by itself: an encoded slash makes no segment."""
    raw = path.strip("/")
    try:
        return tuple(unquote(part, errors="strict") for part in raw.split("/")) if raw else ()
    except UnicodeDecodeError:
        raise bad_request("the path is not UTF-8") from None
