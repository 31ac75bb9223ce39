"""The protobuf wire format (encoding.proto): varints and length-delimited fields; and nothing about messages."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def fields(content: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield (number, wire type, value) of every field. Raises ValueError for what is no message."""
    at, end = 0, len(content)
    while at < end:
        tag, at = varint(content, at)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise ValueError("field number 0")
        value: int | memoryview
        if kind == VARINT:
            value, at = varint(content, at)
        elif kind in (BYTES, FIXED64, FIXED32):
            size = {FIXED64: 8, FIXED32: 4}.get(kind, 0)
            if kind == BYTES:
                size, at = varint(content, at)
            if size > end - at:
                raise ValueError("truncated")
            value = content[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {kind}")
        yield number, kind, value


def varint(content: memoryview, at: int) -> tuple[int, int]:
    """Return a varint at *at* and where it ends. Raises ValueError."""
    value = shift = 0
    while True:
        if at >= len(content) or shift > 63:
            raise ValueError("bad varint")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def signed(value: int, bits: int = 64) -> int:
    """Return a varint as int64 (or the int32 that it was extended from)."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def number(value: int) -> bytes:
    """Encode a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(tag: int, value: bytes | str) -> bytes:
    """Encode a length-delimited field."""
    content = value.encode() if isinstance(value, str) else value
    return number(tag << 3 | BYTES) + number(len(content)) + content


def flag(tag: int) -> bytes:
    """Encode a bool that is true."""
    return number(tag << 3 | VARINT) + b"\x01"
