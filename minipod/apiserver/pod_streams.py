"""The sub-resources of pods that stream: log, exec, attach (portforward: to come). `streams` owns the channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from minipod import errors
from minipod.apiserver.call import Call
from minipod.apiserver.requestinfo import is_true
from minipod.apiserver.store_sqlite import SqliteStore
from minipod.apiserver.streams import PROTOCOLS, ExecChannels, LogQuery, NodeStreams

Object = dict[str, Any]


class PodStreams:
    """Their handlers."""

    def __init__(self, store: SqliteStore, streams: NodeStreams) -> None:
        self._store = store
        self._streams = streams

    async def log(self, call: Call) -> web.StreamResponse:
        """GET .../log."""
        pod = self._store.load(call.key)
        chunks = aiter(self._streams.logs(pod, log_query(call.request.query)))
        first = await anext(chunks, b"")  # errors are told as a Status, before the stream begins
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(call.request)
        try:
            await response.write(first)
            async for chunk in chunks:
                await response.write(chunk)
        except ConnectionError:
            pass
        finally:
            await chunks.aclose()  # type: ignore[attr-defined]
        return response

    async def exec(self, call: Call) -> web.StreamResponse:
        """GET .../exec, upgraded to a WebSocket."""
        pod = self._store.load(call.key)
        query = call.request.query
        command = tuple(query.getall("command", []))
        if not command:
            raise errors.FailedPrecondition(
                "you must specify at least one command for the container"
            )
        session = await self._streams.exec(
            pod,
            query.get("container", ""),
            command,
            tty=is_true(query.get("tty")),
            stdin=is_true(query.get("stdin")),
        )
        return await self._channels(call.request, session)

    async def attach(self, call: Call) -> web.StreamResponse:
        """GET .../attach, upgraded to a WebSocket."""
        pod = self._store.load(call.key)
        query = call.request.query
        stdin = is_true(query.get("stdin"))
        session = await self._streams.attach(pod, query.get("container", ""), stdin=stdin)
        return await self._channels(call.request, session)

    async def _channels(self, request: web.Request, session: Any) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0)
        await socket.prepare(request)
        await ExecChannels(socket, session, self._streams).run()
        return socket


def log_query(query: Mapping[str, str]) -> LogQuery:
    """Return the options of a log. Raises FailedPrecondition."""

    def number(name: str) -> int | None:
        if name not in query:
            return None
        try:
            return int(query[name])
        except ValueError:
            raise errors.FailedPrecondition(f"{name} is not a number: {query[name]!r}") from None

    return LogQuery(
        container=query.get("container", ""),
        follow=is_true(query.get("follow")),
        previous=is_true(query.get("previous")),
        timestamps=is_true(query.get("timestamps")),
        tail_lines=number("tailLines"),
        since_seconds=number("sinceSeconds"),
        since_time=query.get("sinceTime", ""),
        limit_bytes=number("limitBytes"),
    )
