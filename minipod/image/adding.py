"""What ADD does beyond COPY: an archive of the build's directory is unpacked where it would have been copied to.

An archive is a file that begins with a tar header: plain, gzip, zstd, bzip2 or xz, whatever its name. It is
unpacked as a layer is (minipod.image.unpack), so no entry leads out of the image's root.
"""

from __future__ import annotations

import errno
import os
from typing import BinaryIO

from minipod.errors import ImageError
from minipod.image import unpack
from minipod.image.limits import Limits
from minipod.image.stream import Chunks
from minipod.image.tar import Readable
from minipod.image.tarheader import BLOCK, parse_header
from minipod.linux import files


def add_archive(source: int, path: str, root: int, target: str, limits: Limits) -> bool:
    """Unpack *path* below the directory fd *source* into *target* below *root*; False: it is no archive.

    Raises ImageError, OSError.
    """
    try:
        fd = files.open_file_in_root(source, path)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        return False
    with os.fdopen(fd, "rb") as file:
        if not _is_archive(file):
            return False
        file.seek(0)
        directory = files.open_or_make_directory(root, target, 0o755)
        try:
            unpack.apply(_opened(file), directory, limits)
        finally:
            os.close(directory)
    return True


def _is_archive(file: BinaryIO) -> bool:
    head = b""
    try:
        stream = _opened(file)
        while len(head) < BLOCK and (data := stream.read(BLOCK)):
            head += data
        parse_header(head[:BLOCK])
    except (ImageError, OSError, EOFError, IndexError):  # it only began like one
        return False
    return len(head) >= BLOCK and head[257:262] == b"ustar"


def _opened(file: BinaryIO) -> Readable:
    """Return the content of *file*, decompressed."""
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"BZh"):
        import bz2  # rare

        return bz2.open(file)
    if magic == b"\xfd7zXZ\0":
        import lzma  # rare

        return lzma.open(file)
    return Chunks(file)
