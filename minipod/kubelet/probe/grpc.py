"""grpc: grpc.health.v1.Health/Check over a small HTTP/2 client (K8S pkg/probe/grpc/grpc.go; RFC 9113; gRPC over HTTP/2).

    client   preface SETTINGS HEADERS DATA(end) ...
    server   SETTINGS ... HEADERS DATA HEADERS(end: grpc-status)      or HEADERS(end) alone

`Call` is the protocol without I/O, `ask` the flight. No TLS, as in the original. Where grpc-go dials a refused port again and
again until the time limit, this fails at once, in the words that grpc-go has for errors that are not temporary.
"""

from __future__ import annotations

import json
import struct
from urllib.parse import unquote

from minipod.kubelet.probe import sockets
from minipod.kubelet.probe.flight import Deadline
from minipod.kubelet.probe.hpack import BadHeaders, decode, literal
from minipod.kubelet.probe.http import USER_AGENT
from minipod.kubelet.probe.sockets import DialError, ReadError, join_host_port
from minipod.kubelet.probe.targets import Attempt
from minipod.kubelet.rules.probe import Outcome

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 6, 7, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_HEADER = 9  # bytes of a frame's header
_MAX_FRAME = 16384  # no frame may be longer, as we allow no other
_STREAM = 1
# bytes of a message or a header block; a server without WINDOW_UPDATE sends no more data
_MOST = 64 << 10
_SERVING = 1
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_CODES = (
    "OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted "
    "FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated"
).split()
_UNIMPLEMENTED = 12


class Broken(Exception):
    """The peer does not speak HTTP/2, or ended the call in the middle of it."""


class Call:
    """One Check: feed it what came, send what it returns, until `done`."""

    def __init__(self) -> None:
        self.connected = False  # the server's SETTINGS have come
        self.done = False
        self._received = b""
        self._block = b""  # a header block under way
        self._ends = False  # the block is the last
        self._headers: dict[str, str] = {}
        self._message = b""

    def feed(self, received: bytes) -> bytes:
        """Take bytes, b"" for the end; return what to answer. Raises Broken, BadHeaders."""
        if not received:
            raise Broken("error reading from server: EOF")
        self._received += received
        answer = b""
        while not self.done and len(self._received) >= _HEADER:
            size = int.from_bytes(self._received[:3], "big")
            if size > _MAX_FRAME or (not self.connected and self._received[3] != _SETTINGS):
                raise Broken("error reading server preface: http2: frame too large")
            if len(self._received) < _HEADER + size:
                break
            kind, flags = self._received[3], self._received[4]
            payload = self._received[_HEADER : _HEADER + size]
            self._received = self._received[_HEADER + size :]
            answer += self._frame(kind, flags, payload)
        return answer

    def _frame(self, kind: int, flags: int, payload: bytes) -> bytes:
        match kind:
            case k if k == _SETTINGS and not flags & _ACK:
                self.connected = True
                return frame(_SETTINGS, _ACK, 0)
            case k if k == _PING and not flags & _ACK:
                return frame(_PING, _ACK, 0, payload)
            case k if k in (_HEADERS, _CONTINUATION):
                self._add_block(kind, flags, payload)
            case k if k == _DATA:
                self._message += _unpadded(flags, payload)
                self.done = bool(flags & _END_STREAM)
            case k if k == _RST_STREAM:
                code = int.from_bytes(payload[:4], "big")
                raise Broken(f"stream terminated by RST_STREAM with error code: {code}")
            case k if k == _GOAWAY:
                raise Broken("the connection is draining")
        if len(self._message) + len(self._block) > _MOST:
            raise Broken("received message larger than max")
        return b""

    def _add_block(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _HEADERS:
            self._ends = bool(flags & _END_STREAM)
            payload = _unpadded(flags, payload)
            self._block = payload[5:] if flags & _PRIORITY else payload
        else:
            self._block += payload
        if flags & _END_HEADERS:
            self._headers.update(decode(self._block))
            self.done = self._ends

    def attempt(self) -> Attempt:
        """What the call told, when it is done."""
        http_status = self._headers.get(":status", "200")
        status = self._headers.get("grpc-status", "")
        if not status.isdigit():
            if http_status != "200":
                code = 12 if http_status == "404" else 2
                text = f"unexpected HTTP status code received from server: {http_status}"
                return _rpc_failed(code, text)
            return _rpc_failed(13, "server closed the stream without sending trailers")
        if int(status) != 0:
            return _rpc_failed(int(status), unquote(self._headers.get("grpc-message", "")))
        serving = _serving_status(self._message)
        if serving == _SERVING:
            return Attempt(outcome=Outcome.SUCCESS, output="service healthy")
        name = _STATUSES[serving] if serving < len(_STATUSES) else str(serving)
        text = f'service unhealthy (responded with "{name}")'
        return Attempt(outcome=Outcome.FAILURE, output=text)


def request_bytes(host: str, port: int, service: str, time_limit: float) -> bytes:
    """All that the client says unasked."""
    no_dynamic_table_no_push = struct.pack(">HIHI", 1, 0, 2, 0)
    headers = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", join_host_port(host, port)),
        ("content-type", "application/grpc"),
        ("user-agent", USER_AGENT),
        ("te", "trailers"),
        ("grpc-timeout", f"{round(time_limit * 1000)}m"),
    )
    block = b"".join(literal(name, value) for name, value in headers)
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    data = b"\x00" + len(message).to_bytes(4, "big") + message
    return (
        _PREFACE
        + frame(_SETTINGS, 0, 0, no_dynamic_table_no_push)
        + frame(_HEADERS, _END_HEADERS, _STREAM, block)
        + frame(_DATA, _END_STREAM, _STREAM, data)
    )


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


async def ask(address: str, port: int, payload: bytes, time_limit: float) -> Attempt:
    """A flight: connect, call, judge; *time_limit* is only spoken of."""
    where, call = join_host_port(address, port), Call()
    try:
        sock = await sockets.call(address, port, payload)
        try:
            while not call.done:
                answer = call.feed(await sockets.receive(sock))
                if answer and not call.done:
                    await sockets.send(sock, answer)
        finally:
            sockets.hang_up(sock)
    except Deadline:
        limit = f"{time_limit:g}s"
        if call.connected:
            return _failure(f"timeout: health rpc did not complete within {limit}")
        named = json.dumps(where)
        why = "context deadline exceeded"
        return _failure(f"timeout: failed to connect service {named} within {limit}: {why}")
    except DialError as error:
        return _failure(f"error: failed to connect service at {json.dumps(where)}: {error}")
    except (ReadError, Broken, BadHeaders) as error:
        if not call.connected:
            return _failure(f"error: failed to connect service at {json.dumps(where)}: {error}")
        return _rpc_failed(14, str(error))
    return call.attempt()


def _failure(text: str) -> Attempt:
    return Attempt(outcome=Outcome.FAILURE, output=text)


def _rpc_failed(code: int, message: str) -> Attempt:
    if code == _UNIMPLEMENTED:
        what = "this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        return _failure(f"error: {what}: {message}")
    name = _CODES[code] if code < len(_CODES) else f"Code({code})"
    return _failure(f"error: health rpc probe failed: rpc error: code = {name} desc = {message}")


def _serving_status(message: bytes) -> int:
    """HealthCheckResponse: an enum as field 1; absent it is 0, UNKNOWN. The gRPC frame has five bytes in front."""
    size = int.from_bytes(message[1:5], "big")
    fields = message[5 : 5 + size]
    return fields[1] if len(fields) > 1 and fields[0] == 0x08 else 0


def _unpadded(flags: int, payload: bytes) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & _PADDED and payload else payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes((value,))
