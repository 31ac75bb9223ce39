"""Where the last lines of a log begin, compared with reading all of it."""

from __future__ import annotations

import os

from hypothesis import example, given, settings
from hypothesis import strategies as st

from minipod.runtime import logs

STAMP = b"2026-11-24T10:00:00.000000000Z stdout "


def naive(records: list[tuple[bool, bytes]], lines: int) -> int:
    """Return the offset, from the first record on."""
    starts, offset = [0], 0
    for full, text in records:
        offset += len(STAMP) + 2 + len(text) + 1
        if full:
            starts.append(offset)
    if starts[-1] == offset:
        starts.pop()  # nothing behind it
    if lines == 0:
        return offset
    return starts[-lines] if len(starts) >= lines else 0


@example([(False, b"F "), (True, b""), (True, b"")], 3, 16)  # a text that looks like a tag
@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.booleans(), st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"")))),
    st.integers(0, 12),
    st.sampled_from([16, 50, 100, 1000]),
)
def test_the_last_lines_are_found(records, lines, chunk) -> None:
    raw = b"".join(STAMP + (b"F " if full else b"P ") + text + b"\n" for full, text in records)
    fd = os.memfd_create("log")
    before, logs.CHUNK = logs.CHUNK, chunk
    try:
        os.write(fd, raw)
        assert logs.tail_offset(fd, lines) == naive(records, lines)
    finally:
        logs.CHUNK = before
        os.close(fd)
