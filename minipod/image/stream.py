"""A layer's blob as a stream of its archive: decompressed and hashed by threads of its own.

    blob --read--> [thread: gunzip or unzstd] --few chunks--> read() of whoever unpacks
                                             '--the same--> [thread: sha256]

zlib, zstd and sha256 release the interpreter's lock, so the threads work beside the one that makes
files. The diff id (digest of the uncompressed archive) can only be compared when all of it was read:
`verify` drains what the tar reader left behind the end-of-archive mark.
"""

from __future__ import annotations

import collections
import hashlib
import importlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Protocol

from minipod.errors import ImageError
from minipod.image.tar import Readable

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGICS = (0xFD2FB528, *range(0x184D2A50, 0x184D2A60))  # RFC 8878: a frame, and skippable ones
# Modules of one interface, the first that is here. zlib-ng needs half of zlib's time.
GZIP_MODULES = ("zlib_ng.zlib_ng", "zlib")
ZSTD_MODULES = ("compression.zstd", "backports.zstd")  # Python 3.14's own, and its backport
INPUT = 1 << 18  # compressed bytes read at once
CHUNK = 1 << 19  # uncompressed bytes handed over at once
AHEAD = 8  # chunks that may wait, for whoever unpacks and for the digest


class Blob(Readable, Protocol):
    """What a LayerStream reads and closes."""

    def close(self) -> None: ...


class LayerStream:
    """Reads the archive inside *blob*: plain, gzip or zstd, by its first bytes. Use it as a context manager.

    *limit*: bytes it may grow to. *cancel* is called on exit; it must end a read of *blob* that blocks.
    """

    def __init__(
        self, blob: Blob, *, limit: int = 1 << 62, cancel: Callable[[], None] | None = None
    ) -> None:
        self._blob = blob
        self._limit = limit
        self._cancel = cancel
        self._hash = hashlib.sha256()
        self._changed = threading.Condition()
        self._chunks: collections.deque[bytes] = collections.deque()
        self._error: BaseException | None = None
        self._state = "running"  # "ended", "stopped"
        self._thread = threading.Thread(target=self._run, name="layer", daemon=True)

    def __enter__(self) -> LayerStream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._state = "stopped"
            self._changed.notify_all()
        if self._cancel is not None:
            self._cancel()
        self._thread.join()
        self._blob.close()

    def read(self, size: int = CHUNK, /) -> bytes:
        """Return the next chunk whatever its size, b"" at the end. Raises ImageError."""
        del size
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._state == "ended")
            if self._chunks:
                self._changed.notify_all()
                return self._chunks.popleft()
            if self._error is not None:
                raise self._error
            return b""

    def verify(self, diff_id: str) -> None:
        """Read the rest and compare the digest of all. Raises ImageError."""
        while self.read():
            pass
        digest = f"sha256:{self._hash.hexdigest()}"
        if digest != diff_id:
            raise ImageError(
                f"layer has diff id {digest}, the image says {diff_id}", reason="ErrImagePull"
            )

    def _run(self) -> None:
        try:
            with ThreadPoolExecutor(1, "digest") as digest:
                self._decompress(digest)
        except Exception as e:  # the thread's boundary: read raises it
            self._error = e
        finally:
            with self._changed:
                self._state = "ended" if self._state == "running" else self._state
                self._changed.notify_all()

    def _decompress(self, digest: Executor) -> None:
        size = 0
        hashing: collections.deque[Future[None]] = collections.deque()
        for chunk in decompressed(self._blob):
            size += len(chunk)
            self._refuse_bomb(size)
            hashing.append(digest.submit(self._hash.update, chunk))
            if not self._hand_over(chunk):
                return
            if len(hashing) > AHEAD:
                hashing.popleft().result()
        for update in hashing:
            update.result()

    def _refuse_bomb(self, size: int) -> None:
        if size > self._limit:
            raise _damaged(
                f"layer unpacks to more than {self._limit} bytes",
                hint="if you trust the image, raise the setting image_layer_max",
            )

    def _hand_over(self, chunk: bytes) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: len(self._chunks) < AHEAD or self._state == "stopped")
            self._chunks.append(chunk)
            self._changed.notify_all()
            return self._state == "running"


def _damaged(why: str, *, hint: str = "") -> ImageError:
    return ImageError(why, reason="ErrImagePull", hint=hint)


def compression(first: bytes) -> str:
    """Return what a layer's media type says of its compression, by its first four bytes: "", "+gzip", "+zstd"."""
    if first[:2] == GZIP_MAGIC:
        return "+gzip"
    return "+zstd" if int.from_bytes(first[:4], "little") in ZSTD_MAGICS else ""


def decompressed(blob: Readable) -> Iterator[bytes]:
    """Yield the archive's bytes, in chunks of CHUNK at most. Raises ImageError."""
    first = b""
    while len(first) < 4 and (data := blob.read(INPUT)):
        first += data
    unpack = {"": _plain, "+gzip": _gunzip, "+zstd": _unzstd}[compression(first)]
    return unpack(blob, first)


class Chunks:
    """What *source* holds, decompressed, for a tar reader: each read returns the next piece whatever its size."""

    def __init__(self, source: Readable) -> None:
        self._chunks = decompressed(source)

    def read(self, size: int, /) -> bytes:
        del size
        return next(self._chunks, b"")


def _plain(blob: Readable, data: bytes) -> Iterator[bytes]:
    while data:
        yield data
        data = blob.read(CHUNK)


def _gunzip(blob: Readable, data: bytes) -> Iterator[bytes]:
    """Decode gzip members, one behind the other (RFC 1952, pigz makes many); zeros may follow them."""
    module = _first(GZIP_MODULES)
    while data:
        inflater = module.decompressobj(wbits=31)
        ended = False
        while not ended:
            try:
                chunk = inflater.decompress(data, CHUNK)
            except module.error as e:
                raise _damaged(f"layer can't be decompressed: {e}") from e
            if chunk:
                yield chunk
            ended = inflater.eof
            data = inflater.unconsumed_tail
            # After a full chunk there may be more inside, without any input.
            if not data and not ended and len(chunk) < CHUNK and not (data := blob.read(INPUT)):
                raise _damaged("layer can't be decompressed: it ends inside its gzip stream")
        data = inflater.unused_data.lstrip(b"\0")
        while not data and (more := blob.read(INPUT)):
            data = more.lstrip(b"\0")


def _unzstd(blob: Readable, data: bytes) -> Iterator[bytes]:
    """Decode zstd frames, one behind the other; zstd:chunked layers end with skippable ones."""
    module = zstd()
    while data:
        decoder = module.ZstdDecompressor()
        while not decoder.eof:
            try:
                chunk = decoder.decompress(data, CHUNK)
            except module.ZstdError as e:
                raise _damaged(f"layer can't be decompressed: {e}") from e
            if chunk:
                yield chunk
            data = b""
            if decoder.needs_input and not decoder.eof and not (data := blob.read(INPUT)):
                raise _damaged("layer can't be decompressed: it ends inside its zstd stream")
        data = decoder.unused_data or blob.read(INPUT)


def zstd() -> Any:
    if module := _first(ZSTD_MODULES):
        return module
    raise _damaged(
        "layer is compressed with zstd, which this Python can't read",
        hint="install backports.zstd into minipod's virtual environment",
    )


def _first(modules: tuple[str, ...]) -> Any:
    """Return the first of *modules* that is installed, None when none is."""
    for name in modules:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
