"""An HTTP/1.1 response, read from a stream as far as a probe needs it: head and at most 10 KiB of
body.

A body cut by the limit is fine; one cut by the peer is an error, as for Go's client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable

MAX_BODY = 10 * 1024
_MAX_HEAD = 64 * 1024


class BadResponse(Exception):
    """What came is no HTTP response, or ended too early."""


class _Source(Protocol):
    def recv(self) -> Awaitable[bytes]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Status, headers (names in lower case), the first bytes of the body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


class _Reader:
    def __init__(self, source: _Source) -> None:
        self._source = source
        self._buffer = b""

    async def until(self, mark: bytes, limit: int) -> bytes:
        while (end := self._buffer.find(mark)) < 0:
            if len(self._buffer) > limit:
                raise BadResponse("net/http: server response headers exceeded the limit")
            await self._more()
        found, self._buffer = self._buffer[:end], self._buffer[end + len(mark) :]
        return found

    async def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    async def rest(self, limit: int) -> bytes:
        while len(self._buffer) < limit and (received := await self._source.recv()):
            self._buffer += received
        return self._buffer[:limit]

    async def _more(self) -> None:
        received = await self._source.recv()
        if not received:
            raise BadResponse("unexpected EOF" if self._buffer else "EOF")
        self._buffer += received


async def read_response(source: _Source) -> Response:
    """Read one response, skipping 1xx ones. Raises BadResponse, OSError."""
    reader = _Reader(source)
    response = parse_head(await reader.until(b"\r\n\r\n", _MAX_HEAD))
    while 100 <= response.status < 200:
        response = parse_head(await reader.until(b"\r\n\r\n", _MAX_HEAD))
    body = await _body(reader, response)
    return Response(status=response.status, headers=response.headers, body=body)


def parse_head(head: bytes) -> Response:
    """Parse status line and headers."""
    status_line, *lines = head.decode("latin-1").split("\r\n")
    words = status_line.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise BadResponse(f"malformed HTTP response {status_line[:100]!r}")
    pairs = (line.partition(":") for line in lines if ":" in line)
    headers = tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)
    return Response(status=int(words[1]), headers=headers)


async def _body(reader: _Reader, response: Response) -> bytes:
    if response.status in (204, 304):
        return b""
    if "chunked" in response.header("transfer-encoding").lower():
        return await _chunks(reader)
    length = response.header("content-length")
    if not length:
        return await reader.rest(MAX_BODY)
    if not length.isdigit():
        raise BadResponse(f"bad Content-Length {length!r}")
    return await reader.exactly(min(int(length), MAX_BODY))


async def _chunks(reader: _Reader) -> bytes:
    body = b""
    while len(body) < MAX_BODY:
        size_line = (await reader.until(b"\r\n", _MAX_HEAD)).partition(b";")[0].strip()
        try:
            size = int(size_line, 16)
        except ValueError as error:
            raise BadResponse("invalid byte in chunk length") from error
        if size == 0:
            break
        body += await reader.exactly(min(size, MAX_BODY - len(body)))
        if len(body) < MAX_BODY:
            await reader.exactly(2)
    return body[:MAX_BODY]
