"""The routes of the Kubernetes API: generic over the kinds of `resources`, plus the sub-resources of pods."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from minipod import errors
from minipod.api import selectors
from minipod.api.store import Event, Object
from minipod.apiserver import admission, patch, status
from minipod.apiserver.resources import RESOURCES, Resource, discovery
from minipod.apiserver.store_sqlite import SqliteStore
from minipod.apiserver.streams import PROTOCOLS, ExecChannels, LogQuery, NodeStreams
from minipod.apiserver.table import table

logger = logging.getLogger(__name__)

BODY_MAX = 3 << 20  # bytes, as kube-apiserver

VERSION = {
    "major": "1", "minor": "32", "gitVersion": "v1.32.0-minipod", "gitTreeState": "clean",
    "platform": "linux/amd64", "goVersion": "none", "compiler": "python",
}  # fmt: skip


class Api:
    """The handlers."""

    def __init__(self, store: SqliteStore, streams: NodeStreams, node_name: str) -> None:
        self._store = store
        self._streams = streams
        self._node_name = node_name
        self.closing = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        found = [
            web.get("/version", self.version),
            web.get("/healthz", self.healthy),
            web.get("/readyz", self.healthy),
            web.get("/livez", self.healthy),
            web.get("/api", self.api_versions),
            web.get("/apis", self.api_groups),
            web.get("/api/v1", self.api_resources),
        ]
        for base in ("/api/v1/{resource}", "/api/v1/namespaces/{namespace}/{resource}"):
            found += [
                web.get(base, self.list_or_watch),
                web.post(base, self.create),
                web.delete(base, self.delete_collection),
                web.get(base + "/{name}", self.get),
                web.put(base + "/{name}", self.update),
                web.patch(base + "/{name}", self.patch),
                web.delete(base + "/{name}", self.delete),
            ]
        pod = "/api/v1/namespaces/{namespace}/pods/{name}"
        return [
            *found[:7],
            web.get(pod + "/log", self.log),
            web.get(pod + "/exec", self.exec),
            web.get(pod + "/attach", self.attach),
            web.patch(pod + "/status", self.patch),
            web.put(pod + "/status", self.update),
            web.get(pod + "/ephemeralcontainers", self.get),
            web.patch(pod + "/ephemeralcontainers", self.patch),
            web.put(pod + "/ephemeralcontainers", self.update),
            *found[7:],
        ]

    # -- discovery

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response(VERSION)

    async def healthy(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def api_versions(self, _: web.Request) -> web.Response:
        return web.json_response({"kind": "APIVersions", "versions": ["v1"]})

    async def api_groups(self, _: web.Request) -> web.Response:
        return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})

    async def api_resources(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"kind": "APIResourceList", "groupVersion": "v1", "resources": discovery()}
        )

    # -- objects

    def _where(self, request: web.Request) -> tuple[Resource, str | None]:
        info = request.match_info
        resource = RESOURCES.get(info.get("resource", "pods"))
        if resource is None:
            raise errors.NotFound("the server could not find the requested resource")
        return resource, info.get("namespace")

    def _named(self, request: web.Request) -> tuple[Resource, str, str]:
        resource, namespace = self._where(request)
        return resource, namespace or "", request.match_info["name"]

    async def list_or_watch(self, request: web.Request) -> web.StreamResponse:
        resource, namespace = self._where(request)
        if request.query.get("watch") in ("1", "true"):
            return await self._watch(request, resource, namespace)
        items, version = await self._store.list(resource.plural, namespace)
        chosen = [item for item in items if matching(request)(item)]
        if wants_table(request):
            return web.json_response(table(resource.plural, chosen, str(version)))
        return web.json_response(
            {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.api_version,
                "metadata": {"resourceVersion": str(version)},
                "items": chosen,
            }
        )

    async def get(self, request: web.Request) -> web.Response:
        resource, namespace, name = self._named(request)
        obj = await self._store.get(resource.plural, namespace, name)
        return self._answer(request, resource, obj)

    def _answer(
        self, request: web.Request, resource: Resource, obj: Object, code: int = 200
    ) -> web.Response:
        headers = [("Warning", f'299 - "{w}"') for w in request.get("warnings", [])]
        if wants_table(request):
            version = obj["metadata"]["resourceVersion"]
            return web.json_response(table(resource.plural, [obj], version), status=code)
        return web.json_response(obj, status=code, headers=CIMultiDict(headers))

    async def create(self, request: web.Request) -> web.Response:
        resource, namespace = self._where(request)
        obj = await body(request)
        given = obj.get("metadata", {}).get("namespace")
        if resource.namespaced:
            namespace = namespace or given or "default"
            if given not in (None, namespace):
                raise errors.FailedPrecondition(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
            if resource.plural != "namespaces":
                await self._store.get("namespaces", "", namespace)
        lenient = request.query.get("lenient") == "true"
        request["warnings"] = admission.admit(
            resource, obj, node_name=self._node_name, lenient=lenient
        )
        if request.query.get("dryRun") == "All":
            return self._answer(request, resource, obj, 201)
        made = await self._store.create(resource.plural, namespace or "", obj)
        await self._store.flush()
        return self._answer(request, resource, made, 201)

    async def update(self, request: web.Request) -> web.Response:
        resource, namespace, name = self._named(request)
        wanted = await body(request)
        sub = subresource(request)
        if sub != "status":
            current = await self._store.get(resource.plural, namespace, name)
            admission.admit_update(resource, current, wanted, sub)
        made = await self._store.update(
            resource.plural, namespace, name, wanted, sub if sub == "status" else ""
        )
        await self._store.flush()
        return self._answer(request, resource, made)

    async def patch(self, request: web.Request) -> web.Response:
        resource, namespace, name = self._named(request)
        content = await request.read()
        sub = subresource(request)

        def change(current: Object) -> Object:
            wanted = patch.apply(current, content, request.content_type)
            if sub != "status":
                admission.admit_update(resource, current, wanted, sub)
            return wanted

        made = await self._store.mutate(
            resource.plural, namespace, name, change, sub if sub == "status" else ""
        )
        await self._store.flush()
        return self._answer(request, resource, made)

    async def delete(self, request: web.Request) -> web.Response:
        resource, namespace, name = self._named(request)
        options = await body(request, default={})
        grace = options.get("gracePeriodSeconds")
        if "gracePeriodSeconds" in request.query:
            grace = int(request.query["gracePeriodSeconds"])
        uid = options.get("preconditions", {}).get("uid")
        gone = await self._store.delete(
            resource.plural, namespace, name, grace_period=grace, uid=uid
        )
        await self._store.flush()
        return web.json_response(gone)

    async def delete_collection(self, request: web.Request) -> web.Response:
        resource, namespace = self._where(request)
        options = await body(request, default={})
        items, version = await self._store.list(resource.plural, namespace)
        for item in filter(matching(request), items):
            metadata = item["metadata"]
            await self._store.delete(
                resource.plural, metadata.get("namespace", ""), metadata["name"],
                grace_period=options.get("gracePeriodSeconds"),
            )  # fmt: skip
        await self._store.flush()
        return web.json_response(
            {"kind": f"{resource.kind}List", "apiVersion": "v1", "items": [],
             "metadata": {"resourceVersion": str(version)}}
        )  # fmt: skip

    # -- watch

    async def _watch(
        self, request: web.Request, resource: Resource, namespace: str | None
    ) -> web.StreamResponse:
        since = request.query.get("resourceVersion", "")
        fits = matching(request)
        frame = table_frame(resource.plural) if wants_table(request) else plain_frame
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        version = self._store.version
        if since in ("", "0"):
            items, version = await self._store.list(resource.plural, namespace)
            for item in filter(fits, items):
                await response.write(frame("ADDED", item, json.dumps(item).encode()))
        else:
            version = int(since)
        watching = asyncio.create_task(
            self._send_events(response, resource, namespace, version, fits, frame)
        )
        closing = asyncio.create_task(self.closing.wait())
        limit = request.query.get("timeoutSeconds")
        try:
            await asyncio.wait(
                {watching, closing},
                timeout=float(limit) if limit else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            watching.cancel()
            closing.cancel()
            await asyncio.gather(watching, closing, return_exceptions=True)
        return response

    async def _send_events(
        self,
        response: web.StreamResponse,
        resource: Resource,
        namespace: str | None,
        version: int,
        fits: selectors.Match,
        frame: Callable[[str, Object, bytes], bytes],
    ) -> None:
        try:
            async for event in self._store.watch(resource.plural, namespace, version):
                if kind := visible(event, fits):
                    await response.write(frame(kind, event.object, event.data))
        except errors.Gone as e:
            await response.write(
                json.dumps({"type": "ERROR", "object": status.failure(e)}).encode() + b"\n"
            )
        except ConnectionError:
            return

    # -- pods

    async def log(self, request: web.Request) -> web.StreamResponse:
        _, namespace, name = self._named(request)
        pod = await self._store.get("pods", namespace, name)
        chunks = aiter(self._streams.logs(pod, log_query(request)))
        first = await anext(chunks, b"")  # errors are told as a Status, before the stream begins
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        try:
            await response.write(first)
            async for chunk in chunks:
                await response.write(chunk)
        except ConnectionError:
            pass
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]
        return response

    async def exec(self, request: web.Request) -> web.StreamResponse:
        _, namespace, name = self._named(request)
        pod = await self._store.get("pods", namespace, name)
        query = request.query
        command = tuple(query.getall("command", []))
        if not command:
            raise errors.FailedPrecondition(
                "you must specify at least one command for the container"
            )
        session = await self._streams.exec(
            pod, query.get("container", ""), command,
            tty=query.get("tty") in ("1", "true"), stdin=query.get("stdin") in ("1", "true"),
        )  # fmt: skip
        return await self._channels(request, session)

    async def attach(self, request: web.Request) -> web.StreamResponse:
        _, namespace, name = self._named(request)
        pod = await self._store.get("pods", namespace, name)
        stdin = request.query.get("stdin") in ("1", "true")
        session = await self._streams.attach(pod, request.query.get("container", ""), stdin=stdin)
        return await self._channels(request, session)

    async def _channels(self, request: web.Request, session: Any) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0)
        await socket.prepare(request)
        await ExecChannels(socket, session, self._streams).run()
        return socket


def visible(event: Event, fits: selectors.Match) -> str:
    """Return how a selecting watcher sees an event, "" for not at all."""
    if not fits(event.object):
        # It may have fitted before: a watcher that never saw it ignores the deletion.
        return "DELETED" if event.type == "MODIFIED" else ""
    return event.type


def plain_frame(kind: str, _: Object, data: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), data)


def table_frame(resource: str) -> Callable[[str, Object, bytes], bytes]:
    def frame(kind: str, obj: Object, _: bytes) -> bytes:
        shown = table(resource, [obj], obj["metadata"]["resourceVersion"])
        return json.dumps({"type": kind, "object": shown}).encode() + b"\n"

    return frame


def subresource(request: web.Request) -> str:
    """Return the part of an object that is written: "status", "ephemeralcontainers", or "" for the whole."""
    last = request.path.rpartition("/")[2]
    return last if request.path.endswith(f"/{request.match_info['name']}/{last}") else ""


def wants_table(request: web.Request) -> bool:
    return "as=Table" in request.headers.get("Accept", "")


def matching(request: web.Request) -> selectors.Match:
    """Return the request's label and field selectors as one test."""
    tests = []
    if text := request.query.get("labelSelector"):
        tests.append(selectors.label_selector(text))
    if text := request.query.get("fieldSelector"):
        tests.append(selectors.field_selector(text))
    return lambda obj: all(test(obj) for test in tests)


def log_query(request: web.Request) -> LogQuery:
    query = request.query

    def number(name: str) -> int | None:
        if name not in query:
            return None
        try:
            return int(query[name])
        except ValueError:
            raise errors.FailedPrecondition(f"{name} is not a number: {query[name]!r}") from None

    return LogQuery(
        container=query.get("container", ""),
        follow=query.get("follow") in ("1", "true"),
        previous=query.get("previous") in ("1", "true"),
        timestamps=query.get("timestamps") in ("1", "true"),
        tail_lines=number("tailLines"),
        since_seconds=number("sinceSeconds"),
        since_time=query.get("sinceTime", ""),
        limit_bytes=number("limitBytes"),
    )


async def body(request: web.Request, default: Object | None = None) -> Object:
    """Return the request's JSON object."""
    content = await request.read()
    if not content and default is not None:
        return default
    try:
        parsed = json.loads(content)
    except ValueError as e:
        raise errors.FailedPrecondition(f"the request's body is not JSON: {e}") from e
    if not isinstance(parsed, dict):
        raise errors.FailedPrecondition("the request's body must be a JSON object")
    return parsed


@web.middleware
async def tell_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer every error as a metav1.Status."""
    try:
        return await handler(request)
    except web.HTTPException as e:
        answer = status.failure(errors.NotFound("the server could not find the requested resource"))
        return web.json_response({**answer, "code": e.status}, status=e.status)
    except errors.MinipodError as e:
        answer = status.failure(e)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as e:
        logger.exception("%s %s", request.method, request.path)
        answer = status.failure(e)
    return web.json_response(answer, status=answer["code"])
