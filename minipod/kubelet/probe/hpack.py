"""HPACK (RFC 7541) as far as the header blocks of a health check need it. No I/O, no state.

Written: literals without indexing, as they are. Read: all of the format but the dynamic table, which the client forbids with
SETTINGS_HEADER_TABLE_SIZE 0. Of the static table only `:status` is of interest; other names are read as "".
"""

from __future__ import annotations

from functools import cache

# Appendix B is a canonical code: the lengths of the 257 symbols' codes say everything (the last is EOS).
_LENGTHS = bytes.fromhex(
    "0d171c1c1c1c1c1c1c181e1c1c1e1c1c1c1c1c1c1c1c1e1c1c1c1c1c1c1c1c1c060a0a0c0d06080b0a0a080b"
    "080606060505050606060606060607080f060c0a0d0607070707070707070707070707070707070707070707"
    "0807080d130d0e060f05060506050606060507070606060506070605050607070707070f0b0e0d1c14161414"
    "1616161716171717171718171818161718171717171516171617171816151416161717151716161815161717"
    "151516151716171714161616171616171a1a1413161716191a1a1a1b1b1a181913151a1b1b1a1b1815151a1a"
    "1c1b1b1b14181415161515171616191918181a171a1b1a1a1b1b1b1b1b1c1b1b1b1b1b1a1e"
)
_STATUS = {8: "200", 9: "204", 10: "206", 11: "304", 12: "400", 13: "404", 14: "500"}
_EOS = 256


class BadHeaders(Exception):
    """The block breaks the format."""


def literal(name: str, value: str) -> bytes:
    """One header: literal without indexing, new name, no Huffman coding."""
    return b"\x00" + _text(name) + _text(value)


def decode(block: bytes) -> dict[str, str]:
    """The headers of a whole block; of a repeated name the last. Raises BadHeaders."""
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(block):
            first = block[at]
            if first & 0x80:  # indexed: name and value of the table
                index, at = _integer(block, at, 7)
                if index in _STATUS:
                    found[":status"] = _STATUS[index]
                elif index > 61:
                    raise BadHeaders("index of an empty dynamic table")
            elif first & 0xE0 == 0x20:  # a change of the dynamic table's size
                _, at = _integer(block, at, 5)
            else:  # a literal; to be indexed (01), or not (0000), or never (0001)
                name, value, at = _pair(block, at, 6 if first & 0x40 else 4)
                found[name] = value
    except IndexError:
        raise BadHeaders("header block ends too early") from None
    return found


def _pair(block: bytes, at: int, prefix: int) -> tuple[str, str, int]:
    index, at = _integer(block, at, prefix)
    name = ":status" if index in _STATUS else ""
    if index == 0:
        name, at = _string(block, at)
    value, at = _string(block, at)
    return name, value, at


def _text(text: str) -> bytes:
    raw = text.encode()
    size = len(raw)
    if size < 127:
        return bytes((size,)) + raw
    rest, size = bytearray(b"\x7f"), size - 127
    while size >= 128:
        rest.append(size & 127 | 128)
        size >>= 7
    rest.append(size)
    return bytes(rest) + raw


def _integer(block: bytes, at: int, prefix: int) -> tuple[int, int]:
    limit = (1 << prefix) - 1
    value = block[at] & limit
    at += 1
    if value < limit:
        return value, at
    for shift in range(0, 35, 7):
        byte = block[at]
        at += 1
        value += (byte & 127) << shift
        if not byte & 128:
            return value, at
    raise BadHeaders("integer too large")


def _string(block: bytes, at: int) -> tuple[str, int]:
    coded = block[at] & 0x80
    size, at = _integer(block, at, 7)
    raw = block[at : at + size]
    if len(raw) < size:
        raise BadHeaders("string ends too early")
    if coded:
        raw = huffman(raw)
    return raw.decode("utf-8", "replace"), at + size


def huffman(coded: bytes) -> bytes:
    """Decode a Huffman-coded string; its padding is a prefix of EOS. Raises BadHeaders."""
    codes, found = _codes(), bytearray()
    code = length = 0
    for byte in coded:
        for bit in range(7, -1, -1):
            code = code << 1 | byte >> bit & 1
            length += 1
            symbol = codes.get((length, code))
            if symbol is None:
                continue
            if symbol == _EOS:
                raise BadHeaders("EOS within a string")
            found.append(symbol)
            code = length = 0
    if length > 7 or code != (1 << length) - 1:
        raise BadHeaders("bad Huffman padding")
    return bytes(found)


@cache
def _codes() -> dict[tuple[int, int], int]:
    """(length, code) -> symbol."""
    table: dict[tuple[int, int], int] = {}
    code = previous = 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(_LENGTHS)):
        code <<= length - previous
        previous = length
        table[length, code] = symbol
        code += 1
    return table
