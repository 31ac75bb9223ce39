"""Decompression with each module that may do it, in pieces of any size. Excluded: what becomes of a damaged layer (root tests)."""

from __future__ import annotations

import gzip
import importlib.util
import io
import random

import pytest

from minipod.errors import ImageError
from minipod.image import stream

NOISE = random.Random(1).randbytes(300_000)  # noqa: S311 no secret
CONTENTS = {
    "nothing": b"",
    "one byte": b"x",
    "noise": NOISE,
    "a whole chunk": bytes(stream.CHUNK),
    "many chunks": (NOISE + bytes(stream.CHUNK)) * 5,
}


class Pieces:
    """A blob that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._file, self._size = io.BytesIO(data), size

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._size))


@pytest.fixture(params=stream.GZIP_MODULES)
def _module(request, monkeypatch) -> None:
    if importlib.util.find_spec(request.param.partition(".")[0]) is None:
        pytest.skip(f"{request.param} is not installed")
    monkeypatch.setattr(stream, "GZIP_MODULES", (request.param,))


def read(blob: bytes, size: int = stream.INPUT) -> bytes:
    chunks = list(stream.decompressed(Pieces(blob, size)))
    assert all(0 < len(chunk) <= stream.CHUNK for chunk in chunks)
    return b"".join(chunks)


@pytest.mark.usefixtures("_module")
@pytest.mark.parametrize("size", [7001, stream.INPUT])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_what_was_compressed_comes_back(content, size):
    assert read(gzip.compress(content, 6), size) == content


@pytest.mark.usefixtures("_module")
def test_members_and_zeros_behind_each_other_are_one_archive():
    parts = [gzip.compress(NOISE, 1), gzip.compress(b""), gzip.compress(bytes(99), 9)]
    blob = b"".join(parts) + bytes(1000)
    assert read(blob) == read(blob, 1) == NOISE + bytes(99)


@pytest.mark.usefixtures("_module")
@pytest.mark.parametrize("size", [1, stream.INPUT])
def test_damage_is_told(size):
    whole = gzip.compress(NOISE[:5000])
    for cut in (11, 20, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        with pytest.raises(ImageError, match="ends inside its gzip stream"):
            read(whole[:cut], size)
    for wrong in (3, len(whole) - 5, len(whole) - 1):  # flags, checksum, length
        with pytest.raises(ImageError, match="can't be decompressed"):
            read(whole[:wrong] + bytes([whole[wrong] ^ 0xE0]) + whole[wrong + 1 :], size)
