"""An HTTP/1.1 response as far as a probe needs it: head and at most 10 KiB of body. No I/O.

`parse` is asked again with all bytes so far until it knows enough; most answers fit into the first read. A body cut by the
limit is fine; one cut by the peer is an error, as for Go's client (RFC 9112; K8S pkg/probe/http/http.go: maxRespBodyLength).
"""

from __future__ import annotations

MAX_BODY = 10 * 1024
_MAX_HEAD = 256 * 1024
_NO_BODY = (204, 304)


class BadResponse(Exception):
    """What came is no HTTP response, or ended too early."""


class Response:
    """Status and the first bytes of the body; `header` looks into the head."""

    __slots__ = ("_head", "body", "status")

    def __init__(self, status: int, head: bytes, body: bytes) -> None:
        self.status = status
        self.body = body
        self._head = head

    def header(self, name: str) -> str:
        """The value of the first header *name* (in lower case), "" without one."""
        return _header(self._head, self._head.lower(), name.encode())


def parse(received: bytes, *, ended: bool) -> Response | None:
    """Read the first final response in *received*; None: more bytes are needed. Raises BadResponse."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        _check_incomplete(received, ended=ended, head=True)
        return None
    status = _status(received)
    if 100 <= status < 200:
        return parse(received[end + 4 :], ended=ended)
    head = received[: end + 2]
    if status in _NO_BODY:
        return Response(status, head, b"")
    body = _body(head, received[end + 4 :], ended=ended)
    return None if body is None else Response(status, head, body)


def _check_incomplete(received: bytes, *, ended: bool, head: bool) -> None:
    """Raise if no more will come, or nothing good."""
    if head and received[:5] != b"HTTP/"[: len(received)]:
        _malformed(received)
    if ended:
        raise BadResponse("unexpected EOF" if received or not head else "EOF")
    if head and len(received) > _MAX_HEAD:
        raise BadResponse(f"net/http: server response headers exceeded {_MAX_HEAD} bytes; aborted")


def _status(received: bytes) -> int:
    code = received[9:12]
    if received[:7] != b"HTTP/1." or not code.isdigit():
        _malformed(received)
    return int(code)


def _malformed(received: bytes) -> None:
    line = received[:100].split(b"\r\n")[0].decode("utf-8", "replace")
    raise BadResponse(
        f'net/http: HTTP/1.x transport connection broken: malformed HTTP response "{line}"'
    )


def _header(head: bytes, lower: bytes, name: bytes) -> str:
    start = lower.find(b"\r\n" + name + b":")
    if start < 0:
        return ""
    start += len(name) + 3
    return head[start : head.index(b"\r\n", start)].strip().decode("latin-1")


def _body(head: bytes, rest: bytes, *, ended: bool) -> bytes | None:
    lower = head.lower()
    if "chunked" in _header(lower, lower, b"transfer-encoding"):
        return _chunks(rest, ended=ended)
    length = _header(head, lower, b"content-length")
    if not length:
        return rest[:MAX_BODY] if ended or len(rest) >= MAX_BODY else None
    if not length.isdigit():
        raise BadResponse(f'bad Content-Length "{length}"')
    wanted = min(int(length), MAX_BODY)
    if len(rest) >= wanted:
        return rest[:wanted]
    _check_incomplete(rest, ended=ended, head=False)
    return None


def _chunks(rest: bytes, *, ended: bool) -> bytes | None:
    body = b""
    while len(body) < MAX_BODY:
        line, found, rest = rest.partition(b"\r\n")
        if not found:
            _check_incomplete(line, ended=ended, head=False)
            return None
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError as error:
            raise BadResponse("invalid byte in chunk length") from error
        if size == 0:
            break
        body += rest[:size]
        if len(rest) < size and len(body) < MAX_BODY:
            _check_incomplete(rest, ended=ended, head=False)
            return None
        rest = rest[size + 2 :]
    return body[:MAX_BODY]
