"""GET ?watch=true: what exists, then every change (apiserver/pkg/endpoints/handlers/watch.go).

resourceVersion "" or "0" begins with ADDED of what exists, N with what happened after N (410 in the stream when that is forgotten);
sendInitialEvents=true sends what exists and then a bookmark that says so. Bookmarks otherwise come every minute and at the end.
What exists and what happened since is written with back pressure; then the connection joins its view's channel in `fanout`, and comes back
to the log when it lags. A client that reads nothing for DRAIN seconds then is cut off.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from aiohttp.http import HttpVersion11

from minipod import errors
from minipod.apiserver import status
from minipod.apiserver.call import Call, warning
from minipod.apiserver.fanout import Change, Channel, Fanout, Member
from minipod.apiserver.query import ListQuery
from minipod.apiserver.selecting import Selection
from minipod.apiserver.status import ApiError
from minipod.apiserver.store_sqlite import SqliteStore, encode
from minipod.apiserver.table import partial

Object = dict[str, Any]

BOOKMARK = 60.0  # seconds
SHORTEST = 1800  # seconds until a watch without timeoutSeconds ends; up to twice that
DRAIN = 30.0  # seconds that a client may take to read a part of what exists
PART = 256 << 10  # bytes written at once
INITIAL_END = {"k8s.io/initial-events-end": "true"}


class Watch:
    """One watch."""

    def __init__(
        self, store: SqliteStore, fanout: Fanout, call: Call, query: ListQuery, selection: Selection
    ) -> None:
        self._store = store
        self._fanout = fanout
        self._call = call
        self._query = query
        self._selection = selection

    async def serve(self, closing: asyncio.Event) -> web.StreamResponse:
        """Send until the time is over, the client goes, or the server stops. Raises ApiError before the first byte."""
        query, storage = self._query, self._store.storage
        if query.version is not None and query.version > storage.version:
            raise too_large(query.version, storage.version)
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        for words in self._call.warnings:
            response.headers.add("Warning", warning(words))
        request = self._call.request
        chunked = request.version >= HttpVersion11
        if chunked:
            response.enable_chunked_encoding()
        await response.prepare(request)
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):  # gone already
            return response
        try:
            await self._run(response, transport, closing, chunked=chunked)
        except errors.Gone as e:
            await response.write(_frame("ERROR", encode(status.failure(e))))
        except (ConnectionError, TimeoutError):
            transport.abort()
        return response

    async def _run(
        self,
        response: web.StreamResponse,
        transport: asyncio.Transport,
        closing: asyncio.Event,
        *,
        chunked: bool,
    ) -> None:
        loop = asyncio.get_running_loop()
        limit = self._query.timeout or random.randint(SHORTEST, 2 * SHORTEST)  # noqa: S311 spread, no secret
        end = loop.time() + limit
        call = self._call
        view = Channel(
            call.resource.stored_as, call.namespace, self._selection.fits, self._framer()
        )
        ending = asyncio.ensure_future(closing.wait())
        version: int | None = await self._begin(response, view)
        try:
            while version is not None:
                await self._catch_up(response, view, version)
                member = Member(transport, chunked=chunked)
                version = await self._join(view, member, ending, end)
                # The client has enough to read: go on when it has read that.
                await asyncio.wait_for(call.request.writer.drain(), DRAIN)
        finally:
            ending.cancel()

    async def _catch_up(self, response: web.StreamResponse, view: Channel, version: int) -> None:
        """Send everything after *version*; when it returns, nothing is left. Raises Gone."""
        storage = self._store.storage
        while past := storage.since(view.resource, view.namespace, version):
            version = past[-1].rv
            await _send(response, (view.frame(Change(e)) for e in past))

    async def _join(
        self, view: Channel, member: Member, ending: asyncio.Future[Any], end: float
    ) -> int | None:
        """Be a member of the view's channel; return the version to catch up from, None when the watch is over."""
        call = self._call
        included = call.request.query.get("includeObject")
        key = (call.resource, view.namespace, self._selection.text, call.wanted, included)
        channel = self._fanout.channel(key, lambda: view)
        channel.flush()  # what waits there has been sent to this one
        channel.members.add(member)
        try:
            await self._wait(channel, member, ending, end)
        finally:
            self._fanout.leave(key, channel, member)
        return member.left.result() if member.left.done() else None

    async def _begin(self, response: web.StreamResponse, channel: Channel) -> int:
        """Send what exists, where that is asked for; return the version that it was of."""
        query, storage = self._query, self._store.storage
        version = storage.version
        wants = query.initial if query.initial is not None else query.version in (None, 0)
        if not wants:
            return query.version or version
        shelf = storage.shelf(channel.resource)
        data = [shelf.data[place] for place in shelf.select(channel.namespace)]
        frame = self._framer()
        fits = self._selection.fits
        await _send(
            response,
            (frame("ADDED", None, d) for d in data if fits is None or fits(json.loads(d))),
        )
        if query.initial and query.bookmarks:
            await response.write(self._bookmark(version, INITIAL_END))
        return version

    async def _wait(
        self, channel: Channel, member: Member, ending: asyncio.Future[Any], end: float
    ) -> None:
        loop = asyncio.get_running_loop()
        while (left := end - loop.time()) > 0:
            done, _ = await asyncio.wait(
                {member.left, ending},
                timeout=min(BOOKMARK, left),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if done:
                return
            if self._query.bookmarks:
                channel.flush()
                # Who lags, perhaps by this flush, has not got what a bookmark would stand for.
                if not member.is_gone and not member.left.done():
                    member.write(self._bookmark(self._store.version, {}))

    def _bookmark(self, version: int, annotations: Object) -> bytes:
        metadata: Object = {"resourceVersion": str(version)}
        resource = self._call.resource
        if self._call.wanted.form == "Table":
            return _frame("BOOKMARK", encode(self._call.table([], metadata)))
        if annotations:
            metadata["annotations"] = annotations
        shown = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        if self._call.wanted.form == "PartialObjectMetadata":
            shown = partial(shown, self._call.wanted.version)
        return _frame("BOOKMARK", encode(shown))

    def _framer(self) -> Any:
        """Return how a change becomes a frame in the form that was asked for."""
        call = self._call
        convert, form = call.resource.from_storage, call.wanted.form
        if form == "" and convert is None:
            return lambda kind, obj, data: _frame(kind, data or encode(obj))

        def frame(kind: str, obj: Object | None, data: bytes) -> bytes:
            shown = json.loads(data) if obj is None else obj
            if form == "Table":
                version = shown["metadata"].get("resourceVersion", "")
                return _frame(kind, encode(call.table([shown], {"resourceVersion": version})))
            shown = call.served(shown)
            if form == "PartialObjectMetadata":
                shown = partial(shown, call.wanted.version)
            return _frame(kind, encode(shown))

        return frame


def _frame(kind: str, data: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (kind.encode(), data)


async def _send(response: web.StreamResponse, frames: Iterable[bytes]) -> None:
    """Write frames in parts, each when the client has read enough of the last. Raises TimeoutError."""
    part: list[bytes] = []
    size = 0
    for frame in frames:
        part.append(frame)
        size += len(frame)
        if size >= PART:
            await asyncio.wait_for(response.write(b"".join(part)), DRAIN)
            part, size = [], 0
    if size:
        await asyncio.wait_for(response.write(b"".join(part)), DRAIN)


def too_large(asked: int, current: int) -> ApiError:
    """A version of the future."""
    return ApiError(
        504,
        f"Too large resource version: {asked}, current: {current}",
        details={
            "causes": [
                {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            ],
            "retryAfterSeconds": 1,
        },
    )
