"""A layer's blob as a stream: decompressed, hashed, its faults turned into ImageError.

The diff id (digest of the uncompressed archive) can only be compared when all of it was read, so
`verify` drains what the tar reader left behind the end-of-archive mark.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib
import zlib
from typing import BinaryIO

from minipod.errors import ImageError
from minipod.image.tar import Readable

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_MODULES = ("compression.zstd", "backports.zstd")  # Python 3.14's own, and its backport


class LayerStream:
    """Reads the archive inside *blob*: plain, gzip, or zstd where a module for it is installed."""

    def __init__(self, blob: BinaryIO) -> None:
        self._inner = _decompressed(blob)
        self._hash = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """Return up to *size* bytes, b"" at the end. Raises ImageError."""
        try:
            data = self._inner.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as e:
            raise ImageError(f"layer can't be decompressed: {e}", reason="ErrImagePull") from e
        self._hash.update(data)
        return data

    def verify(self, diff_id: str) -> None:
        """Read the rest and compare the digest of all. Raises ImageError."""
        while self.read(1 << 20):
            pass
        digest = f"sha256:{self._hash.hexdigest()}"
        if digest != diff_id:
            raise ImageError(
                f"layer has diff id {digest}, the image says {diff_id}", reason="ErrImagePull"
            )


def _decompressed(blob: BinaryIO) -> Readable:
    magic = blob.read(4)
    blob.seek(0)
    if magic[:2] == GZIP_MAGIC:
        return gzip.GzipFile(fileobj=blob)
    if magic == ZSTD_MAGIC:
        return _zstd(blob)
    return blob


def _zstd(blob: BinaryIO) -> Readable:
    for name in ZSTD_MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        stream: Readable = module.ZstdFile(blob)
        return stream
    raise ImageError(
        "layer is compressed with zstd, which this Python can't read",
        reason="ErrImagePull",
        hint="install backports.zstd into minipod's virtual environment",
    )
