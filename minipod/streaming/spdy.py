"""SPDY/3.1 connections, sans-I/O: bytes in, events out; what must be sent piles up in `take`.

    idle --SYN_STREAM--> open --FIN of one side--> half closed --FIN of the other, or RST_STREAM--> closed (forgotten)

What Kubernetes' clients use of it and no more: streams opened by the client, data, half-close, reset, ping, goaway. There is no flow
control, as in theirs (they send no WINDOW_UPDATE and expect none): whoever drives a connection stops reading instead. A data frame is
told as it comes, never kept whole; frames of control and header blocks are bounded. An error that concerns one stream resets it, one
that concerns the connection raises ProtocolError and ends it (GOAWAY is in `take` then).
Source: SPDY Protocol, Draft 3.1, sections 2.2 to 2.6.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from minipod.streaming.spdy_headers import Deflater, HeaderError, Inflater

CONTROL_MAX: Final = 64 << 10  # bytes of a control frame
STREAMS_MAX: Final = 4096  # open at once in one connection
DATA_MAX: Final = (1 << 24) - 1  # bytes of a data frame's payload
FLAG_FIN: Final = 0x01
_VERSION: Final = 3
_HEAD: Final = struct.Struct("!II")


class Kind(enum.IntEnum):
    """Types of control frames."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class Status(enum.IntEnum):
    """Why a stream is reset."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    CANCEL = 5
    INTERNAL_ERROR = 6
    STREAM_ALREADY_CLOSED = 9


class ProtocolError(Exception):
    """The peer breaks the protocol in a way that ends the connection."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer opened a stream."""

    stream: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Replied:
    """The peer accepted a stream of ours."""

    stream: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream, a part of a frame perhaps."""

    stream: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Finished:
    """The peer sends nothing more on a stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer gave a stream up. *status* is one of `Status`, or a number that it should not be."""

    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class GoneAway:
    """The peer opens no more streams."""


Event = StreamOpened | Replied | Data | Finished | Reset | GoneAway


@dataclass(slots=True)
class _Stream:
    local_open: bool = True
    remote_open: bool = True


@dataclass(slots=True)
class Connection:
    """One side of a connection: the server's, or with *client* the client's."""

    client: bool = False
    _streams: dict[int, _Stream] = field(default_factory=dict)
    _newest: int = 0  # the highest id that the peer opened
    _next: int = 1  # of our own
    _input: bytearray = field(default_factory=bytearray)
    _output: bytearray = field(default_factory=bytearray)
    _in_data: bool = False  # in the middle of a data frame
    _data_stream: int = 0  # whose
    _data_left: int = 0
    _data_fin: bool = False
    _deflater: Deflater = field(default_factory=Deflater)
    _inflater: Inflater = field(default_factory=Inflater)

    def __post_init__(self) -> None:
        self._next = 1 if self.client else 2

    def take(self) -> bytes:
        """Return what must be sent now, and forget it."""
        taken = bytes(self._output)
        self._output.clear()
        return taken

    def is_open(self, stream: int) -> bool:
        """Whether *stream* still takes data from us."""
        known = self._streams.get(stream)
        return known is not None and known.local_open

    # -- what we do

    def open(self, headers: Mapping[str, str], *, fin: bool = False) -> int:
        """Open a stream; with *fin* we send nothing on it."""
        stream, self._next = self._next, self._next + 2
        self._streams[stream] = _Stream(local_open=not fin)
        body = struct.pack("!IIBB", stream, 0, 0, 0) + self._deflater.block(headers)
        self._control(Kind.SYN_STREAM, FLAG_FIN if fin else 0, body)
        return stream

    def reply(self, stream: int, headers: Mapping[str, str] | None = None) -> None:
        """Accept a stream of the peer."""
        if stream in self._streams:
            body = struct.pack("!I", stream) + self._deflater.block(headers or {})
            self._control(Kind.SYN_REPLY, 0, body)

    def send(self, stream: int, payload: bytes, *, fin: bool = False) -> None:
        """Send data, and with *fin* nothing after it. On a stream that is closed it goes nowhere: the peer has reset it."""
        known = self._streams.get(stream)
        if known is None or not known.local_open:
            return
        if len(payload) > DATA_MAX:
            raise ValueError(f"a frame takes {DATA_MAX} bytes, not {len(payload)}")
        self._output += _HEAD.pack(stream, (FLAG_FIN if fin else 0) << 24 | len(payload)) + payload
        if fin:
            known.local_open = False
            self._forget_closed(stream, known)

    def reset(self, stream: int, status: Status = Status.CANCEL) -> None:
        """Give a stream up, both ways. Idempotent."""
        if self._streams.pop(stream, None) is not None:
            self._reset(stream, status)

    def ping(self) -> None:
        """Make the peer say something: it sends the same back, which is no event."""
        self._control(Kind.PING, 0, struct.pack("!I", 1 if self.client else 2))

    def go_away(self, status: int = 0) -> None:
        """Tell the peer to open no more streams."""
        self._control(Kind.GOAWAY, 0, struct.pack("!II", self._newest, status))

    def _reset(self, stream: int, status: Status) -> None:
        self._control(Kind.RST_STREAM, 0, struct.pack("!II", stream, status))

    def _control(self, kind: Kind, flags: int, body: bytes) -> None:
        self._output += _HEAD.pack(0x80000000 | _VERSION << 16 | kind, flags << 24 | len(body))
        self._output += body

    def _forget_closed(self, stream: int, known: _Stream) -> None:
        if not (known.local_open or known.remote_open):
            del self._streams[stream]

    # -- what the peer does

    def receive(self, data: bytes) -> Iterator[Event]:
        """Yield the events that *data* completes. Raises ProtocolError."""
        self._input += data
        try:
            while True:
                if self._in_data:
                    if self._data_left and not self._input:
                        return
                    yield from self._data()
                elif (frame := self._next_frame()) is None:
                    return
                else:
                    yield from self._frame(*frame)
        except (HeaderError, struct.error) as e:
            self.go_away(Status.PROTOCOL_ERROR)
            raise ProtocolError(str(e)) from e

    def _next_frame(self) -> tuple[int, int, bytes] | None:
        """Take a control frame, as type, flags and body, or the head of a data frame, as a frame of type 0; None: more must come."""
        if len(self._input) < _HEAD.size:
            return None
        word, rest = _HEAD.unpack_from(self._input)
        flags, size = rest >> 24, rest & 0xFFFFFF
        if not word & 0x80000000:
            del self._input[: _HEAD.size]
            self._in_data, self._data_stream, self._data_left = True, word, size
            self._data_fin = bool(flags & FLAG_FIN)
            return 0, 0, b""
        version = word >> 16 & 0x7FFF
        if version != _VERSION or size > CONTROL_MAX:
            raise HeaderError(f"a control frame of version {version} and {size} bytes")
        end = _HEAD.size + size
        if len(self._input) < end:
            return None
        body = bytes(self._input[_HEAD.size : end])
        del self._input[:end]
        return word & 0xFFFF, flags, body

    def _data(self) -> Iterator[Event]:
        payload = bytes(self._input[: self._data_left])
        del self._input[: len(payload)]
        self._data_left -= len(payload)
        stream = self._data_stream
        known = self._streams.get(stream)
        self._in_data = bool(self._data_left)
        fin = self._data_fin and not self._in_data
        if known is None or not known.remote_open:
            if not self._in_data and not self._was_open(stream):
                self._reset(stream, Status.INVALID_STREAM)
            return  # of a stream that we have reset: it was under way
        if payload:
            yield Data(stream, payload)
        if fin:
            yield from self._finished(stream)

    def _was_open(self, stream: int) -> bool:
        ours = bool(stream % 2) == self.client
        return 0 < stream < self._next if ours else 0 < stream <= self._newest

    def _finished(self, stream: int) -> Iterator[Event]:
        known = self._streams.get(stream)
        if known is not None and known.remote_open:
            known.remote_open = False
            self._forget_closed(stream, known)
            yield Finished(stream)

    def _frame(self, kind: int, flags: int, body: bytes) -> Iterator[Event]:
        match kind:
            case Kind.SYN_STREAM:
                yield from self._on_syn_stream(flags, body)
            case Kind.SYN_REPLY:
                yield from self._on_reply(flags, body)
            case Kind.RST_STREAM:
                stream, status = struct.unpack("!II", body)
                if self._streams.pop(stream, None) is not None:
                    yield Reset(stream, status)
            case Kind.HEADERS:
                (stream,) = struct.unpack_from("!I", body)
                self._inflater.headers(
                    body[4:]
                )  # nothing in them concerns us, but the context does
                if flags & FLAG_FIN:
                    yield from self._finished(stream)
            case Kind.PING:
                (number,) = struct.unpack("!I", body)
                if bool(number % 2) != self.client:  # theirs, not the echo of one of ours
                    self._control(Kind.PING, 0, body)
            case Kind.GOAWAY:
                yield GoneAway()
            case _:
                return  # SETTINGS, WINDOW_UPDATE, and what a later draft may add: ignored, as section 2.2.1 asks

    def _on_syn_stream(self, flags: int, body: bytes) -> Iterator[Event]:
        (stream,) = struct.unpack_from("!I", body)
        headers = self._inflater.headers(body[10:])
        if bool(stream % 2) == self.client or stream <= self._newest:
            raise HeaderError(f"stream {stream} opened after {self._newest}")
        self._newest = stream
        if len(self._streams) >= STREAMS_MAX:
            self._reset(stream, Status.REFUSED_STREAM)
            return
        self._streams[stream] = _Stream()
        yield StreamOpened(stream, headers)
        if flags & FLAG_FIN:
            yield from self._finished(stream)

    def _on_reply(self, flags: int, body: bytes) -> Iterator[Event]:
        (stream,) = struct.unpack_from("!I", body)
        headers = self._inflater.headers(body[4:])
        if stream not in self._streams:
            return  # we have reset it meanwhile
        yield Replied(stream, headers)
        if flags & FLAG_FIN:
            yield from self._finished(stream)
