"""Header blocks of SPDY/3.1: name and value pairs, deflated with one shared context for each direction and a fixed dictionary.

Bounded: a block that inflates to more than HEADER_MAX bytes is refused before it has done so (zlib bombs).
Source: SPDY Protocol, Draft 3.1, section 2.6.10.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import Final

HEADER_MAX: Final = 32 << 10  # bytes of one inflated block; clients send less than 100
_U32: Final = struct.Struct("!I")

_WORDS: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow"
    " authorization cache-control connection content-base content-encoding content-language content-length"
    " content-location content-md5 content-range content-type date etag expect expires from host if-match"
    " if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma"
    " proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade"
    " user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie"
    " keep-alive origin"
).split()
_TAIL: Final = (
    b"100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    b"203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    b"403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    b"Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    b"chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    b"text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    words = (word.replace("_", " ").encode() for word in _WORDS)
    return b"".join(_U32.pack(len(word)) + word for word in words) + _TAIL


DICTIONARY: Final = _dictionary()


class HeaderError(ValueError):
    """A control frame or a header block that is none. The compression context is lost with it: so is the connection."""


class Deflater:
    """Writes the blocks of one direction."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(zdict=DICTIONARY)

    def block(self, headers: Mapping[str, str]) -> bytes:
        """Return one block."""
        parts = [_U32.pack(len(headers))]
        for name, value in headers.items():
            for text in (name.lower().encode(), value.encode()):
                parts += (_U32.pack(len(text)), text)
        return self._zlib.compress(b"".join(parts)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class Inflater:
    """Reads the blocks of one direction, in the order in which they were written."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)

    def headers(self, block: bytes) -> dict[str, str]:
        """Return the headers of one block, names in lower case. Raises HeaderError."""
        try:
            plain = self._zlib.decompress(block, HEADER_MAX)
        except zlib.error as e:
            raise HeaderError(f"header block: {e}") from e
        if self._zlib.unconsumed_tail or len(plain) >= HEADER_MAX:
            raise HeaderError(f"header block of more than {HEADER_MAX} bytes")
        return _parse(plain)


def _parse(plain: bytes) -> dict[str, str]:
    at = 0

    def number() -> int:
        nonlocal at
        if at + 4 > len(plain):
            raise HeaderError("header block ends early")
        (found,) = _U32.unpack_from(plain, at)
        at += 4
        return int(found)

    def text() -> str:
        nonlocal at
        size = number()
        if at + size > len(plain):
            raise HeaderError("header block ends early")
        found = plain[at : at + size]
        at += size
        return found.decode("latin-1")

    headers: dict[str, str] = {}
    for _ in range(number()):
        name = text().lower()
        if name in headers:
            raise HeaderError(f"header {name!r} twice")
        headers[name] = text()
    if at != len(plain):
        raise HeaderError("bytes behind the last header")
    return headers
