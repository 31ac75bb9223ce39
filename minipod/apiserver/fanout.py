"""Changes to watchers over HTTP: watchers that want the same share a channel, whose frames are encoded and joined once per batch.

    storage -> Fanout.on_event -> Channel.offer (fits? frame) -> pending -> flush, seldom enough -> each transport

A flush writes the same bytes to every member's transport; nobody waits for anybody. A member lags when BUFFER_MAX bytes wait for its
client, or when a flush is larger than FLUSH_MAX: it leaves the channel with the version that it has, and its watch catches up from
the log as fast as the client reads (`watching`). The first change after a quiet time goes out in the same turn.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

from minipod.api.store import Event
from minipod.apiserver.storage import Storage

Object = dict[str, Any]
Fits = Callable[[Object], bool]
# Of its type, its object if somebody decoded that, and its bytes.
Frame = Callable[[str, Object | None, bytes], bytes]

BATCH = 0.02  # seconds between two flushes, at most
SHARE = 20  # flushes take a twentieth of the loop's time, at most
CREDIT = 0.02  # seconds of a quiet time whose share may be taken later
TIDY = 0.05  # seconds until a watch ends whose client was found gone
BUFFER_MAX = 1 << 20  # bytes that may wait for one client
FLUSH_MAX = 1 << 20  # bytes that are written to all members at once


class Change:
    """One event while it is handed out: decoded at most once for all channels."""

    def __init__(self, event: Event) -> None:
        self.event = event

    @cached_property
    def object(self) -> Object:
        return self.event.object

    @cached_property
    def previous(self) -> Object | None:
        return json.loads(self.event.previous) if self.event.previous else None


class Member:
    """One connection in a channel. `left` tells when it is no longer: None, the client is gone; else the version that it has."""

    def __init__(self, transport: asyncio.Transport, *, chunked: bool) -> None:
        self._transport = transport
        self.chunked = chunked
        self.left: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    def write(self, frames: bytes) -> bool:
        """Send frames; return whether the client keeps up."""
        return self.send(_chunk(frames) if self.chunked else frames)

    def send(self, data: bytes) -> bool:
        """Send bytes as they are, in a chunk or not; return whether the client keeps up."""
        self._transport.write(data)
        return self._transport.get_write_buffer_size() <= BUFFER_MAX

    @property
    def is_gone(self) -> bool:
        return self._transport.is_closing()

    def leave(self, version: int | None) -> None:
        """Say that it is out."""
        if not self.left.done():
            self.left.set_result(version)


class Channel:
    """What watchers of one view get: their resource, namespace, selectors and form are the same."""

    def __init__(
        self, resource: str, namespace: str | None, fits: Fits | None, frame: Frame
    ) -> None:
        self.resource = resource
        self.namespace = namespace
        self._fits = fits
        self._frame = frame
        self._pending: list[bytes] = []
        self._before = 0  # the version before the first change that is pending
        self._seen = 0  # the version of the last change that was offered
        self.members: set[Member] = set()

    def frame(self, change: Change, kind: str = "") -> bytes:
        """Return how a watcher of this view sees a change, b"" for not at all."""
        event = change.event
        if self.namespace not in (None, event.namespace):
            return b""
        kind = kind or event.type
        if self._fits is None:
            return self._frame(kind, None, event.data)
        fits = self._fits(change.object)
        previous = change.previous
        before = previous is not None and self._fits(previous)
        if kind == "DELETED":
            return self._frame(kind, change.object, event.data) if before or fits else b""
        if not fits:
            return self._left(change) if before else b""
        return self._frame(kind if before else "ADDED", change.object, event.data)

    def _left(self, change: Change) -> bytes:
        """The object no longer fits: for this watcher it is gone, as it was last seen."""
        seen = dict(change.previous or {})
        seen["metadata"] = {
            **seen["metadata"],
            "resourceVersion": change.object["metadata"]["resourceVersion"],
        }
        return self._frame("DELETED", seen, b"")

    def offer(self, change: Change) -> bool:
        """Take a change in; return whether there is something to flush."""
        self._seen = change.event.rv
        if frame := self.frame(change):
            if not self._pending:
                self._before = change.event.rv - 1
            self._pending.append(frame)
        return bool(self._pending)

    def flush(self) -> None:
        """Send what waits."""
        if not self._pending:
            return
        frames = b"".join(self._pending)
        chunk = _chunk(frames)  # one for all of them
        self._pending = []
        for member in list(self.members):
            if member.is_gone:
                self._drop(member, None)
            elif len(frames) > FLUSH_MAX:
                self._drop(member, self._before)
            elif not member.send(chunk if member.chunked else frames):
                self._drop(member, self._seen)

    def _drop(self, member: Member, version: int | None) -> None:
        self.members.discard(member)
        if version is None:  # nobody waits for that, but others for what has changed
            asyncio.get_running_loop().call_later(TIDY, member.leave, None)
        else:
            member.leave(version)


class Fanout:
    """All channels of one server."""

    def __init__(self, storage: Storage) -> None:
        self._channels: dict[str, dict[object, Channel]] = {}
        self._due = False
        self._next = 0.0  # loop time of the next flush, at the earliest
        storage.listeners.append(self.on_event)

    def channel(self, key: object, make: Callable[[], Channel]) -> Channel:
        """Return the channel of *key*, made when it is the first of its view. Leave it by `leave`."""
        made = make()
        return self._channels.setdefault(made.resource, {}).setdefault(key, made)

    def leave(self, key: object, channel: Channel, member: Member) -> None:
        """Take a member out; a channel without any goes. Another one may have come since the last member was seen in it."""
        channel.members.discard(member)
        of_resource = self._channels[channel.resource]
        if not channel.members and of_resource.get(key) is channel:
            del of_resource[key]

    def on_event(self, event: Event) -> None:
        channels = self._channels.get(event.resource)
        if not channels:
            return
        change = Change(event)
        filled = [channel.offer(change) for channel in channels.values()]
        if not any(filled) or self._due:
            return
        self._due = True
        loop = asyncio.get_running_loop()
        if loop.time() >= self._next:
            loop.call_soon(self._flush)
        else:
            loop.call_at(self._next, self._flush)

    def _flush(self) -> None:
        self._due = False
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for channels in list(self._channels.values()):
            for channel in list(channels.values()):
                channel.flush()
        end = loop.time()
        self._next = next_flush(self._next, begin, end)


def next_flush(earliest: float, begin: float, end: float) -> float:
    """Return when there may be another flush behind one that took from *begin* to *end*, and might have been at *earliest*.

    What was not used of the last time is left, up to CREDIT: a few short flushes follow each other at once, of long ones one.

    >>> next_flush(0.0, 9.999, 10.0)  # a millisecond, after a quiet time: at once
    10.0
    >>> next_flush(10.0, 10.0, 10.001)
    10.02
    """
    return max(earliest, end - CREDIT) + min(BATCH, SHARE * (end - begin))


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)
