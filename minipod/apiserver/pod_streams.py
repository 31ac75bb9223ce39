"""The sub-resources of pods that stream: log, exec, attach, portforward. `minipod.streaming` speaks the protocols.

Whatever can be wrong with a request is told before its connection is upgraded, in Kubernetes' words (pkg/registry/core/pod).
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Any, Final

from aiohttp import web

from minipod import errors
from minipod.api.fields import FieldError, FieldErrors
from minipod.apiserver.call import Call
from minipod.apiserver.requestinfo import is_true
from minipod.apiserver.status import ApiError
from minipod.apiserver.store_sqlite import SqliteStore
from minipod.apiserver.streams import LogQuery, NodeStreams
from minipod.spec.ids import ContainerId
from minipod.streaming import server
from minipod.streaming.presence import Presence

Object = dict[str, Any]

BINARY: Final = "binary.k8s.io"  # a log over a WebSocket
BASE64: Final = "base64.binary.k8s.io"


class PodStreams:
    """Their handlers."""

    def __init__(self, store: SqliteStore, streams: NodeStreams) -> None:
        self._store = store
        self._streams = streams

    async def log(self, call: Call) -> web.StreamResponse:
        """GET .../log, plain or over a WebSocket."""
        pod = self._store.load(call.key)
        query = log_query(pod, call.request.query)
        chunks = self._streams.logs(pod, query)
        try:
            await anext(chunks, b"")  # errors are told as a Status, before the stream begins
            if call.request.headers.get("Upgrade", "").lower() == "websocket":
                return await _log_messages(call.request, chunks)
            return await _log_text(call.request, chunks)
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]

    async def exec(self, call: Call) -> web.StreamResponse:
        """GET or POST .../exec, upgraded."""
        pod, query = _decoded(self._store.raw(call.key)), call.request.query
        wanted = server.wanted_streams(query)
        command = tuple(query.getall("command", []))
        if not command:
            raise errors.FailedPrecondition(
                "you must specify at least one command for the container"
            )
        name = choose_container(pod, query.get("container", ""))
        server.require_upgrade(call.request)
        container = await self._running(pod, name)
        return await server.remote_command(
            call.request,
            self._streams,
            lambda: self._streams.exec(container, command, tty=wanted.tty, stdin=wanted.stdin),
            wanted,
        )

    async def attach(self, call: Call) -> web.StreamResponse:
        """GET or POST .../attach, upgraded."""
        pod, query = self._store.load(call.key), call.request.query
        wanted = server.wanted_streams(query)
        name = choose_container(pod, query.get("container", ""))
        server.require_upgrade(call.request)
        container = await self._running(pod, name)
        return await server.remote_command(
            call.request,
            self._streams,
            lambda: self._streams.attach(container, stdin=wanted.stdin),
            wanted,
        )

    async def port_forward(self, call: Call) -> web.StreamResponse:
        """GET or POST .../portforward, upgraded."""
        pod = self._store.load(call.key)
        server.require_upgrade(call.request)
        return await server.port_forward(
            call.request, lambda port: self._streams.port_forward(pod, port)
        )

    async def _running(self, pod: Object, container: str) -> ContainerId:
        try:
            return await self._streams.running(pod, container)
        except errors.FailedPrecondition as e:
            raise ApiError(500, f"unable to upgrade connection: {e.message}") from e


@lru_cache(maxsize=4)
def _decoded(raw: bytes) -> Object:
    """Decode a pod, for reading only. Who runs commands in one runs several, and its bytes are the same ones until it changes."""
    pod: Object = json.loads(raw)
    return pod


async def _log_text(request: web.Request, chunks: AsyncIterator[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})

    async def send() -> None:
        await response.prepare(request)
        async for chunk in chunks:
            await response.write(chunk)

    with contextlib.suppress(ConnectionError):
        await Presence(request).hold(send())
    return response


async def _log_messages(request: web.Request, chunks: AsyncIterator[bytes]) -> web.StreamResponse:
    socket = web.WebSocketResponse(protocols=(BINARY, BASE64))
    await socket.prepare(request)

    async def send() -> None:
        async for chunk in chunks:
            await _send(socket, chunk)
        await socket.close()

    with contextlib.suppress(ConnectionError):
        await Presence(request).hold(send())
    return socket


async def _send(socket: web.WebSocketResponse, chunk: bytes) -> None:
    if not chunk:
        return
    if socket.ws_protocol == BASE64:
        await socket.send_str(base64.b64encode(chunk).decode())
    else:
        await socket.send_bytes(chunk)


def choose_container(pod: Object, wanted: str) -> str:
    """Return the name of the container that is meant. Raises FailedPrecondition."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    apps, inits, others = (
        [c["name"] for c in spec.get(key) or []]
        for key in ("containers", "initContainers", "ephemeralContainers")
    )
    if wanted:
        if wanted not in (*apps, *inits, *others):
            raise errors.FailedPrecondition(
                f"container {wanted} is not valid for pod {name}",
                hint=f"its containers: {', '.join((*inits, *apps, *others))}",
            )
        return wanted
    if len(apps) == 1:
        return str(apps[0])
    default = (pod["metadata"].get("annotations") or {}).get(
        "kubectl.kubernetes.io/default-container"
    )
    if default in apps:
        return str(default)
    more = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
    raise errors.FailedPrecondition(
        f"a container name must be specified for pod {name}, choose one of: [{' '.join(apps)}]{more}"
    )


def log_query(pod: Object, query: Mapping[str, str]) -> LogQuery:
    """Return the options of a log. Raises FailedPrecondition, and FieldErrors (ValidatePodLogOptions)."""

    def number(name: str) -> int | None:
        if name not in query:
            return None
        try:
            return int(query[name])
        except ValueError:
            raise errors.FailedPrecondition(f"{name} is not a number: {query[name]!r}") from None

    found = LogQuery(
        container=choose_container(pod, query.get("container", "")),
        follow=is_true(query.get("follow")),
        previous=is_true(query.get("previous")),
        timestamps=is_true(query.get("timestamps")),
        tail_lines=number("tailLines"),
        since_seconds=number("sinceSeconds"),
        since_time=query.get("sinceTime", ""),
        limit_bytes=number("limitBytes"),
        stream=query.get("stream", "All"),
    )
    wrong = [
        FieldError(path, f"Invalid value: {value}: must be greater than or equal to {least}")
        for path, value, least in (
            ("tailLines", found.tail_lines, 0),
            ("sinceSeconds", found.since_seconds, 1),
            ("limitBytes", found.limit_bytes, 1),
        )
        if value is not None and value < least
    ]
    if found.since_seconds is not None and found.since_time:
        words = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        wrong.append(FieldError("", words, "FieldValueForbidden"))
    if found.stream not in ("All", "Stdout", "Stderr"):
        words = f'Unsupported value: "{found.stream}": supported values: "All", "Stderr", "Stdout"'
        wrong.append(FieldError("stream", words, "FieldValueNotSupported"))
    if wrong:
        raise FieldErrors(f'PodLogOptions "{pod["metadata"]["name"]}"', wrong)
    return found
