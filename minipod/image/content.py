"""Blobs by their digest, in the OCI image layout: blobs/sha256/<hex>.

    writer(expected=...) -> ingest/<hex>, locked, resumable --commit: size, digest, fsync--> blobs/sha256/<hex>
    writer()             -> a file without a name           --commit: fsync, linkat--------> blobs/sha256/<hex>

A blob gets its name only when its digest is known to be right, so a kill at any byte leaves no wrong
blob: at most a partial one in ingest/, which the next writer of that digest goes on with (and hashes
again). Blobs never change; two writers of one blob are harmless. It is not known here what a blob means,
nor who still needs it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from minipod.errors import ImageError

CHUNK = 1 << 20  # bytes read at once
# bytes of a manifest or config: what registries must accept (distribution-spec)
SMALL_MAX = 4 << 20
PARTIAL_AGE = 24 * 3600.0  # seconds until an abandoned download is swept, as containerd's ingests
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


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
    """A blob on its way in: write() what comes, then commit(). One thread writes, others may follow().

    Left without commit, nothing remains of a nameless one; a named one stays partial, to be resumed.
    """

    def __init__(self, fd: int, directory: str, *, partial: str = "", size: int = -1) -> None:
        self._fd = fd
        self._directory = directory
        self._partial = partial  # its path below ingest/, whose last component is the expected hex
        self._size = size  # as the descriptor says, -1 when that is not known
        self._hash = hashlib.sha256()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._state = "open"  # or "committed", "given up"
        self.offset = 0  # bytes that are here: what a resumed download must leave out
        while data := os.pread(fd, CHUNK, self.offset):
            self._hash.update(data)
            self.offset += len(data)

    def write(self, data: bytes | memoryview) -> int:
        """Append *data*. Raises ImageError: more than the size, or what a follower failed with."""
        if self._error is not None:
            raise self._error
        if 0 <= self._size < self.offset + len(data):
            self.discard()
            raise _wrong(f"blob is longer than the {self._size} bytes its descriptor says")
        self._hash.update(data)
        view = memoryview(data)
        at = self.offset
        while view:
            written = os.pwrite(self._fd, view, at)
            view = view[written:]
            at += written
        with self._changed:
            self.offset = at
            self._changed.notify_all()
        return len(data)

    def commit(self, *, expected: str = "") -> str:
        """Give the blob its name and return its digest. Raises ImageError when it is not what was expected."""
        digest = f"sha256:{self._hash.hexdigest()}"
        if self._partial:
            expected = f"sha256:{os.path.basename(self._partial)}"
        if self._size >= 0 and self.offset != self._size:
            raise _wrong(f"blob ends after {self.offset} bytes, its descriptor says {self._size}")
        if expected and digest != expected:
            self.discard()
            raise _wrong(f"blob has digest {digest}, expected {expected}")
        os.fsync(self._fd)  # the name must not survive a power cut that the content does not
        if self._partial:
            os.fchmod(self._fd, 0o444)
            os.rename(self._partial, f"{self._directory}/{digest[7:]}")
        else:
            self._link(digest[7:])
        with self._changed:
            self._state = "committed"
            self._changed.notify_all()
        return digest

    def _link(self, name: str) -> None:
        directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # dst_dir_fd makes Python call linkat(AT_SYMLINK_FOLLOW), as open(2) shows for O_TMPFILE
            source = f"/proc/self/fd/{self._fd}"
            with contextlib.suppress(FileExistsError):
                os.link(source, name, dst_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(directory)

    def discard(self) -> None:
        """Forget a partial blob whose bytes are wrong: nobody shall go on with them."""
        if self._partial:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._partial)

    def follow(self) -> Follower | None:
        """Return a reader that sees the bytes as they come; None when this writer is closed."""
        with self._changed:
            return None if self._fd < 0 else Follower(self, os.dup(self._fd), self._changed)

    def fail(self, error: BaseException) -> None:
        """Tell the writing side that the blob is of no use: its next write raises *error*, nothing of it stays."""
        self._error = error

    def available(self, offset: int) -> bool:
        """Tell whether more than *offset* bytes are here, or no more will come. Raises ImageError: given up."""
        if self._state == "given up":
            raise _wrong("the blob's transfer was given up")
        return self.offset > offset or self._state == "committed"

    def close(self) -> None:
        """Release the file. Without a commit, whoever follows gets an error."""
        with self._changed:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            if self._state == "open":
                if self._error is not None:
                    self.discard()
                self._state = "given up"
                self._changed.notify_all()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Follower:
    """Reads a blob while it is written, in another thread; its end of file means: committed, digest right."""

    def __init__(self, writer: Writer, fd: int, changed: threading.Condition) -> None:
        self._writer = writer
        self._fd = fd  # our own: the writer may be closed before we are through
        self._changed = changed
        self._at = 0
        self._cancelled = False

    def read(self, size: int, /) -> bytes:
        """Return up to *size* bytes; waits for the first. Raises ImageError when the writer gave up."""
        with self._changed:
            self._changed.wait_for(lambda: self._cancelled or self._writer.available(self._at))
            here = self._at if self._cancelled else self._writer.offset
        data = os.pread(self._fd, min(size, here - self._at), self._at)
        self._at += len(data)
        return data

    def cancel(self) -> None:
        """End a read that waits, of another thread."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def close(self) -> None:
        os.close(self._fd)


def _wrong(why: str) -> ImageError:
    return ImageError(why, reason="ErrImagePull")


class ContentStore:
    """The blobs below *root*."""

    def __init__(self, root: str) -> None:
        self._directory = os.path.join(root, "blobs", "sha256")
        self._ingest = os.path.join(root, "ingest")
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        os.makedirs(self._ingest, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError), open(f"{root}/oci-layout", "x") as marker:
            marker.write('{"imageLayoutVersion":"1.0.0"}')

    def path(self, digest: str) -> str:
        """Return where the blob is, or would be. Raises ImageError for what is not a digest."""
        if not DIGEST.fullmatch(digest):
            raise _wrong(f"not a sha256 digest: {digest!r}")
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
            data = file.read(SMALL_MAX + 1)
        if len(data) > SMALL_MAX:
            raise _wrong(f"blob {digest} is larger than {SMALL_MAX} bytes: no manifest or config")
        if digest_of(data) != digest:
            raise ImageError(
                f"blob {digest} is damaged on disk",
                reason="ImageInspectError",
                hint=f"remove {self.path(digest)} and build or pull the image again",
            )
        return data

    def writer(self) -> Writer:
        """Begin a blob whose digest is not known yet."""
        fd = os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o444)
        return Writer(fd, self._directory)

    def resume(self, wanted: Descriptor) -> Writer | None:
        """Begin the blob *wanted*, or go on with what is there of it (`offset`); None: it is here already.

        Waits while another process or thread writes the same blob. Raises ImageError: not a digest.
        """
        partial = os.path.join(self._ingest, os.path.basename(self.path(wanted.digest)))
        while self.size(wanted.digest) is None:
            fd = os.open(partial, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                # Whoever held the lock may have committed or discarded what we opened.
                if _is_at(fd, partial):
                    if os.fstat(fd).st_size > wanted.size:
                        os.truncate(fd, 0)
                    writer = Writer(fd, self._directory, partial=partial, size=wanted.size)
                    fd = -1
                    return writer
            finally:
                if fd >= 0:
                    os.close(fd)
        return None

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

    def digests(self, *, older: float = 0.0) -> Iterator[str]:
        """Yield the digest of each blob that has been here for *older* seconds."""
        for name in os.listdir(self._directory):
            if not older or os.stat(f"{self._directory}/{name}").st_mtime + older < time.time():
                yield f"sha256:{name}"

    def sweep_partials(self, *, older: float = PARTIAL_AGE) -> None:
        """Remove partial blobs that nobody has written to for *older* seconds."""
        for name in os.listdir(self._ingest):
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                path = os.path.join(self._ingest, name)
                if os.stat(path).st_mtime + older > time.time():
                    continue
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(path)
                finally:
                    os.close(fd)


def _is_at(fd: int, path: str) -> bool:
    """Tell whether *fd* is still the file called *path*."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
