"""The tar reader against bytes that nobody meant as an archive, and against Python's own tar writer.

Excluded: what is done with entries (tests/root/test_image_unpack.py, test_image_hostile.py).
"""

from __future__ import annotations

import io
import tarfile
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.errors import ImageError
from minipod.image.tar import Entry, TarReader
from tests.image_files import entry, layer

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=150)
NAMES = TEXT.map(lambda text: text.strip("/") or "x")


def read(data: bytes) -> list[tuple[Entry, bytes]]:
    reader = TarReader(io.BytesIO(data))
    return [(found, b"".join(reader.chunks())) for found in reader]


def read_or_refuse(data: bytes) -> None:
    """Read it; the only error that may come is the one that says what is wrong with the archive."""
    message = ""
    try:
        read(data)
    except ImageError as e:
        message = e.message
    assert not message or message.startswith("not a valid tar archive")


MEMBERS = st.lists(
    st.tuples(
        NAMES, st.binary(max_size=3000), st.integers(0, 0o7777), st.integers(0, 2**31), st.integers(0, 2**33)
    ),
    max_size=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(MEMBERS, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_what_pythons_tar_writes_is_read_back(members, form):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content, mode, owner, mtime in members:
            info, _ = entry(name, content, mode=mode, uid=owner, gid=owner, mtime=mtime)
            tar.addfile(info, io.BytesIO(content))
    found = [
        (e.name, content, e.mode, e.uid, e.mtime_ns // 10**9) for e, content in read(out.getvalue())
    ]
    assert found == members


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_are_an_archive_or_a_clear_error(data):
    read_or_refuse(data)


def seed() -> bytes:
    """Return an archive with every kind of header."""
    sparse = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "s",
        "GNU.sparse.realsize": "9000",
    }
    return layer(
        entry("a" * 150, b"1" * 700, pax_headers={"SCHILY.xattr.user.x": "y", "mtime": "1.5"}),
        entry("s", b"1\n512\n10\n".ljust(512, b"\0") + b"0123456789", pax_headers=sparse),
        entry("l", type=tarfile.SYMTYPE, linkname="t" * 200),
        entry("d", type=tarfile.DIRTYPE),
    )  # fmt: skip


SEED = seed()


def resum(data: bytearray, at: int) -> None:
    """Make the checksum of the header block at *at* right again, so that the fields behind it are read."""
    block = data[at : at + 512]
    block[148:156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(block)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(SEED)),
)
def test_a_changed_archive_is_read_or_refused_but_never_fails_otherwise(changes, length):
    data = bytearray(SEED)
    for at, value in changes:
        data[at] = value
        resum(data, at - at % 512)
    read_or_refuse(bytes(data[:length]))


def test_a_map_of_a_sparse_file_is_not_read_in_quadratic_time():
    segments = 60_000
    table = b"%d\n" % segments + b"".join(b"%d\n1\n" % (2 * n) for n in range(segments))
    table = table.ljust(-(-len(table) // 512) * 512, b"\0")
    records = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "200000"}
    data = layer(entry("s", table + bytes(segments), pax_headers=records))
    began = time.process_time()
    ((found, content),) = read(data)
    assert found.segments is not None
    assert len(found.segments) == len(content) == segments
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize("size", [1, 100, 512, 1000])
def test_headers_and_data_may_lie_across_chunks(size):
    class Small(io.BytesIO):
        def read(self, wanted: int | None = -1, /) -> bytes:
            return super().read(size)

    reader = TarReader(Small(SEED))
    found = [(e.name, e.type, b"".join(reader.chunks())) for e in reader]
    assert found == [(e.name, e.type, content) for e, content in read(SEED)]
    assert [name for name, _, _ in found] == ["a" * 150, "s", "l", "d/"]
