"""The client's half of RFC 6455, sans-I/O: handshake, frames, fragments, pings. No extensions."""

from __future__ import annotations

import os
import struct
from binascii import b2a_base64
from collections.abc import Iterator

try:
    from _sha1 import sha1  # type: ignore[import-not-found]  # without libcrypto, which takes 3 ms to load
except ImportError:  # a Python that has no sha1 of its own
    from hashlib import sha1

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Handshake:
    """The request, and whether the answer fits it."""

    def __init__(self, target: str, protocol: str) -> None:
        self._key = b2a_base64(os.urandom(16), newline=False)
        self.request = (
            f"GET {target} HTTP/1.1\r\nHost: minipod\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {protocol}\r\n"
            f"Sec-WebSocket-Key: {self._key.decode()}\r\n\r\n"
        ).encode()

    def accepted(self, headers: bytes) -> bool:
        """Whether the head of the answer is a 101 for our key."""
        expected = b2a_base64(sha1(self._key + GUID, usedforsecurity=False).digest(), newline=False)
        return headers.startswith(b"HTTP/1.1 101") and expected in headers


def frame(opcode: int, payload: bytes) -> bytes:
    """Return one masked frame, as a client must send it."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    mask = os.urandom(4)
    repeated = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(
        size, "big"
    )
    return head + mask + masked


class Decoder:
    """Bytes in, (opcode, message) out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._opcode = 0
        self._parts = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the whole messages that *data* completes."""
        self._buffer += data
        while (found := self._frame()) is not None:
            final, opcode, payload = found
            if opcode >= CLOSE:
                yield opcode, payload
                continue
            if opcode != CONTINUATION:
                self._opcode, self._parts = opcode, bytearray()
            self._parts += payload
            if final:
                yield self._opcode, bytes(self._parts)

    def _frame(self) -> tuple[bool, int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, at = buffer[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(buffer) < at + width:
                return None
            size = int.from_bytes(buffer[at : at + width], "big")
            at += width
        if len(buffer) < at + size:
            return None
        final, opcode = bool(buffer[0] & 0x80), buffer[0] & 0x0F
        payload = bytes(buffer[at : at + size])
        del buffer[: at + size]
        return final, opcode, payload
