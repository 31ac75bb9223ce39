"""Blobs by their digest, in the OCI image layout: blobs/sha256/<hex>.

A blob is written to a file that has no name (O_TMPFILE) and gets its name only when its digest is known
to be right, so that a kill at any byte leaves nothing. Blobs never change; two writers of one blob are
harmless. It is not known here what a blob means, nor who still needs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO

from minipod.errors import ImageError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """What points to a blob (OCI descriptor)."""

    media_type: str
    digest: str
    size: int  # bytes


def digest_of(data: bytes) -> str:
    """Return the name of a blob with this content."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Writer:
    """A blob on its way in: write(), then commit(). Left without commit, nothing remains."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o444)
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Append *data*."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    def commit(self, *, expected: str = "") -> str:
        """Give the blob its name and return its digest. Raises ImageError when it is not *expected*."""
        digest = f"sha256:{self._hash.hexdigest()}"
        if expected and digest != expected:
            raise ImageError(
                f"blob has digest {digest}, expected {expected}", reason="ErrImagePull"
            )
        os.fsync(self._fd)  # the name must not survive a power cut that the content does not
        source = f"/proc/self/fd/{self._fd}"
        directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # dst_dir_fd makes Python call linkat(AT_SYMLINK_FOLLOW), as open(2) shows for O_TMPFILE
            with contextlib.suppress(FileExistsError):
                os.link(source, digest[7:], dst_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(directory)
        return digest

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._fd)


class ContentStore:
    """The blobs below *root*."""

    def __init__(self, root: str) -> None:
        self._directory = os.path.join(root, "blobs", "sha256")
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError), open(f"{root}/oci-layout", "x") as marker:
            marker.write('{"imageLayoutVersion":"1.0.0"}')

    def path(self, digest: str) -> str:
        """Return where the blob is, or would be. Raises ImageError for what is not a digest."""
        if not _DIGEST.fullmatch(digest):
            raise ImageError(f"not a sha256 digest: {digest!r}", reason="ErrImagePull")
        return os.path.join(self._directory, digest[7:])

    def size(self, digest: str) -> int | None:
        """Return the blob's size, None when it is not here."""
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            return None

    def open(self, digest: str) -> BinaryIO:
        """Open the blob for reading. Raises ImageError."""
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError as e:
            raise ImageError(f"blob {digest} is missing", reason="ImageInspectError") from e

    def read(self, digest: str) -> bytes:
        """Return a small blob's content, checked again. Raises ImageError."""
        with self.open(digest) as file:
            data = file.read()
        if digest_of(data) != digest:
            raise ImageError(
                f"blob {digest} is damaged on disk",
                reason="ImageInspectError",
                hint=f"remove {self.path(digest)} and build or pull the image again",
            )
        return data

    def writer(self) -> Writer:
        """Begin a new blob."""
        return Writer(self._directory)

    def put(self, data: bytes) -> str:
        """Store *data* and return its digest."""
        digest = digest_of(data)
        if self.size(digest) != len(data):
            with self.writer() as blob:
                blob.write(data)
                blob.commit(expected=digest)
        return digest

    def delete(self, digest: str) -> None:
        """Remove a blob; a missing one is fine."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(digest))
