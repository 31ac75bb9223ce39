"""What the kernel tells of deleted rules. The bytes are those of `nft delete table`. Excluded: the kernel."""

from __future__ import annotations

import struct

import pytest

from minipod.network.rules_watch import deletions


def message(kind: int, table: bytes, subsystem: int = 10) -> bytes:
    name = table + b"\0"
    attribute = struct.pack("=HH", 4 + len(name), 1) + name + bytes(-len(name) % 4)
    body = struct.pack("=BBH", 1, 0, 0) + attribute  # struct nfgenmsg
    return struct.pack("=IHHII", 16 + len(body), subsystem << 8 | kind, 0, 0, 0) + body


@pytest.mark.parametrize(
    ("datagram", "tables"),
    [
        pytest.param(message(2, b"ours"), {b"ours"}, id="table"),
        pytest.param(message(8, b"ours") + message(2, b"other"), {b"ours", b"other"}, id="two"),
        pytest.param(message(0, b"ours") + message(6, b"ours"), set(), id="additions"),
        pytest.param(message(14, b"ours"), set(), id="an-element-of-a-map"),
        pytest.param(message(2, b"ours", subsystem=1), set(), id="another-subsystem"),
        pytest.param(b"", set(), id="nothing"),
        pytest.param(b"\0" * 40, set(), id="garbage"),
    ],
)
def test_deletions_name_their_tables(datagram: bytes, tables: set[bytes]) -> None:
    assert deletions(datagram) == tables
