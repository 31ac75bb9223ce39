"""HTTP/1.1 over the node's unix socket, as small as a command line wants it: http.client would import ssl and email (20 ms).

One request for each connection. A response reads its body as it comes: by length, in chunks, or until the end.
"""

from __future__ import annotations

import socket
from typing import BinaryIO

from minipod.errors import Unavailable


class Response:
    """The answer: *status*, *headers* (lower-case names, in order), and the body."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file: BinaryIO = sock.makefile("rb")
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
        data = self._file.read1(size if self._left is None else min(size, self._left))  # type: ignore[attr-defined]
        if self._left is not None:
            self._left -= len(data)
            if self._chunked and not self._left:
                self._file.readline()
        if not data:
            self.close()
        return bytes(data)

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
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
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
