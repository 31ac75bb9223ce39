"""HTTP/1.1 over the node's unix socket, as small as a command line wants it: http.client would import ssl and email (20 ms).

One request for each connection. A response reads its body as it comes: by length, in chunks, or until the end. The sockets are those
below Python's module `socket`, which makes enums of 200 constants first (1.5 ms), and the words of a path are quoted here, for
urllib.parse takes 1.8 ms to import.
"""

from __future__ import annotations

import _socket
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from minipod.errors import Unavailable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PLAIN = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)  # RFC 3986, 2.3


def connect(path: str, timeout: float | None = None) -> _socket.socket:
    """Return a socket that is connected to the one at *path*. Raises OSError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def quote(text: str) -> str:
    """Return *text* as it stands in a path or in a query."""
    return "".join(chr(b) if b in PLAIN else f"%{b:02X}" for b in text.encode())


def encode_query(pairs: Iterable[tuple[str, object]]) -> str:
    """Return what stands behind the question mark."""
    return "&".join(f"{quote(name)}={quote(str(value))}" for name, value in pairs)


class _Incoming(io.RawIOBase):
    """What comes from a socket, as a file."""

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        return self._sock.recv_into(buffer)


class Response:
    """The answer: *status*, *headers* (lower-case names, in order), and the body."""

    def __init__(self, sock: _socket.socket) -> None:
        self._sock = sock
        self._file = io.BufferedReader(_Incoming(sock))
        words = self._file.readline().split(None, 2)
        if len(words) < 2:
            raise ConnectionError("the server closed the connection")
        self.status = int(words[1])
        self.headers: list[tuple[str, str]] = []
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            self.headers.append((name.lower(), value.strip()))
        self._chunked = self.header("transfer-encoding") == "chunked"
        length = self.header("content-length")
        self._left: int | None = int(length) if length else None
        self._pending = b""  # for readline
        self._ended = False

    def header(self, name: str) -> str:
        """Return the first header of that name, or ""."""
        return next((v for n, v in self.headers if n == name), "")

    def read_some(self, size: int = 1 << 16) -> bytes:
        """Return what comes next of the body, at most *size* bytes; b"" at its end. Raises Unavailable when the server breaks it off."""
        if self._ended:
            return b""
        if self._chunked and not self._left:
            self._left = int(self._line().split(b";")[0], 16)
        if self._left == 0:
            self.close()
            return b""
        data = self._file.read1(size if self._left is None else min(size, self._left))
        if self._left is not None:
            self._left -= len(data)
            if self._chunked and not self._left:
                self._file.readline()
        if not data:
            self.close()
        return data

    def _line(self) -> bytes:
        try:
            line = self._file.readline()
        except ConnectionError:
            line = b""
        if not line:
            self.close()
            raise Unavailable("the node went away before it had said all")
        return line

    def read(self) -> bytes:
        """Return the rest of the body."""
        return b"".join(iter(self.read_some, b""))

    def readline(self) -> bytes:
        """Return the next line of the body, b"" at its end."""
        while b"\n" not in self._pending:
            data = self.read_some()
            if not data:
                rest, self._pending = self._pending, b""
                return rest
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line + b"\n"

    def close(self) -> None:
        """Give the connection up. Idempotent."""
        self._ended = True
        self._file.close()
        self._sock.close()


def request(
    path: str,
    method: str,
    target: str,
    *,
    headers: dict[str, str],
    body: bytes = b"",
    timeout: float | None = None,
) -> Response:
    """Send one request to the socket at *path*. Raises OSError."""
    sock = connect(path, timeout)
    try:
        lines = [
            f"{method} {target} HTTP/1.1",
            "Host: minipod",
            "Connection: close",
            f"Content-Length: {len(body)}",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return Response(sock)
    except BaseException:
        sock.close()
        raise
