"""GET of many: the objects' bytes joined, pages from a snapshot, tables (apiserver/pkg/storage/etcd3/store.go GetList).

A page's token names a snapshot of the list that its first page was of: references to bytes, kept for the last SNAPSHOTS lists. When it
is no longer there the answer is 410 with a token that goes on from the current state.
"""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from typing import Any

from aiohttp import web  # noqa: TC002 handlers are read at run time

from minipod.apiserver.call import Call
from minipod.apiserver.negotiation import JSON
from minipod.apiserver.query import ListQuery
from minipod.apiserver.selecting import Selection
from minipod.apiserver.status import ApiError, bad_request
from minipod.apiserver.storage import Place, Storage
from minipod.apiserver.store_sqlite import encode
from minipod.apiserver.table import partial
from minipod.apiserver.watching import too_large

Object = dict[str, Any]
Found = tuple[Place, bytes]

SNAPSHOTS = 16
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue"
    " parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided"
    " token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was"
    " returned and now may show up in the list."
)


class Listing:
    """Answers lists; remembers the snapshots of those that go on."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._snapshots: OrderedDict[tuple[object, ...], list[Found]] = OrderedDict()

    def answer(self, call: Call, query: ListQuery, selection: Selection) -> web.Response:
        """Return the list. Raises ApiError 400, 410, 504."""
        scope = (call.resource.stored_as, call.namespace, selection.text)
        if query.token:
            if query.version:
                raise bad_request("specifying resource version is not allowed when using continue")
            asked, start = _read_token(query.token)
            found, version = self._resume(scope, asked, start, selection)
        else:
            version = self._version(call.resource.stored_as, query)
            found = self._find(scope, selection)
        page, metadata = found, {"resourceVersion": str(version)}
        if query.limit and len(found) > query.limit:
            page = found[: query.limit]
            self._snapshots[(*scope, version)] = found
            self._snapshots.move_to_end((*scope, version))
            if len(self._snapshots) > SNAPSHOTS:
                self._snapshots.popitem(last=False)
            metadata["continue"] = _token(version, page[-1][0])
            if not selection.fits:
                metadata["remainingItemCount"] = len(found) - len(page)  # type: ignore[assignment]
        return _render(call, [data for _, data in page], metadata)

    def _find(self, scope: tuple[str, str | None, str], selection: Selection) -> list[Found]:
        resource, namespace, _ = scope
        shelf, fits = self._storage.shelf(resource), selection.fits
        found = [(place, shelf.data[place]) for place in shelf.select(namespace)]
        if selection.name:
            found = [f for f in found if f[0][1] == selection.name]
        return found if fits is None else [f for f in found if fits(json.loads(f[1]))]

    def _resume(
        self, scope: tuple[str, str | None, str], asked: int, start: Place, selection: Selection
    ) -> tuple[list[Found], int]:
        if asked < 0:
            return [f for f in self._find(scope, selection) if f[0] > start], self._storage.version
        snapshot = self._snapshots.get((*scope, asked))
        if snapshot is None:
            details = {"continue": _token(-1, start)}
            raise ExpiredToken(_EXPIRED, details["continue"])
        return [f for f in snapshot if f[0] > start], asked

    def _version(self, resource: str, query: ListQuery) -> int:
        """Return the version that the list is of: the current one, or exactly the one asked for, while nothing has changed since."""
        version, current = query.version, self._storage.version
        if not version:
            return current
        if version > current:
            raise too_large(version, current)
        if query.match != "Exact" and (query.match or not query.limit):
            return current
        if version < self._storage.shelf(resource).changed:
            raise ApiError(410, f"The resourceVersion for the provided list is too old: {version}")
        return version


class ExpiredToken(ApiError):
    """410 for a continue token; the Status' metadata carries one that works."""

    def __init__(self, message: str, token: str) -> None:
        super().__init__(410, message)
        self.token = token


def _token(version: int, last: Place) -> str:
    content = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": last})
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def _read_token(text: str) -> tuple[int, Place]:
    try:
        read = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        namespace, name = (str(part) for part in read["start"])
        version = int(read["rv"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise bad_request("continue key is not valid") from None
    return version, (namespace, name)


def _render(call: Call, data: list[bytes], metadata: Object) -> web.Response:
    form, resource = call.wanted.form, call.resource
    if form == "Table":
        return call.reply(call.table([json.loads(d) for d in data], metadata))
    name = f"{resource.kind}List"
    version = resource.api_version
    if form == "PartialObjectMetadata":
        name, version = "PartialObjectMetadataList", f"meta.k8s.io/{call.wanted.version}"
        data = [encode(partial(call.served(json.loads(d)), call.wanted.version)) for d in data]
    elif resource.from_storage is not None:
        data = [encode(call.served(json.loads(d))) for d in data]
    head = encode({"kind": name, "apiVersion": version, "metadata": metadata})
    body = b'%b,"items":[%b]}' % (head[:-1], b",".join(data))
    return call.raw(body) if call.wanted.media == JSON else call.reply(json.loads(body))
