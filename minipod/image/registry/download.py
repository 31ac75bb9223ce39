"""Blobs on their way in: from one source after the other, resumed where they broke off, counted against their size.

The writer compares digest and size; here it is decided what another attempt may mend. A cut or silent
connection goes on from the bytes that are there (Range). Bytes that are wrong can't be mended here: the
unpacking has already seen them, so the pull begins anew, and those bytes are forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from minipod.errors import ImageError
from minipod.image.content import Descriptor, Writer, digest_of
from minipod.image.reference import Reference
from minipod.image.registry import progress
from minipod.image.registry.http import ATTEMPTS, RequestFailed, delay
from minipod.image.registry.progress import LayerProgress, Tell
from minipod.image.registry.source import Source

T = TypeVar("T")

BATCH = 1 << 20  # bytes handed to the writing thread at once
STEP = 1 << 20  # bytes that make an attempt a success, so that its end counts as a first failure
TELL_EVERY = 0.1  # seconds


class WrongContent(ImageError):
    """The bytes are not what the descriptor says, or can't be unpacked; from elsewhere they may be right."""

    def __init__(self, cause: ImageError) -> None:
        super().__init__(cause.message, reason=cause.reason, hint=cause.hint)


class Download:
    """The blobs of one image from *sources*, the preferred one first."""

    def __init__(
        self, image: Reference, sources: Sequence[Source], threads: Executor, tell: Tell
    ) -> None:
        self._image = image
        self._sources = sources
        self._threads = threads
        self._tell = tell

    async def in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Call what blocks: in our own threads, for it may wait for what others write."""
        call = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            await asyncio.wait((call,))  # it still uses the file that the caller is about to close
            raise

    async def small(self, blob: Descriptor) -> bytes:
        """Return a blob (a config) whose size has been judged. Raises ImageError."""
        into = _Memory(blob)
        await self._fetch(blob, into)
        return bytes(into.content)

    async def layer(self, blob: Descriptor, writer: Writer) -> None:
        """Fill and commit *writer*. Raises RequestFailed, WrongContent, ImageError."""
        await self._fetch(blob, _File(writer, self))
        await self.in_thread(_checked, writer, writer.commit)

    async def _fetch(self, blob: Descriptor, into: _Memory | _File) -> None:
        last = len(self._sources) - 1
        for position, source in enumerate(self._sources):
            try:
                await self._from(source, blob, into)
            except RequestFailed:
                if position == last:
                    raise
            else:
                return

    async def _from(self, source: Source, blob: Descriptor, into: _Memory | _File) -> None:
        """Go on until all of it is here, or no more comes."""
        failures = 0
        while into.offset < blob.size:
            before = into.offset
            try:
                await self._once(source, blob, into)
            except RequestFailed as e:
                failures = 1 if into.offset - before >= STEP else failures + 1
                if not e.passing or failures >= ATTEMPTS:
                    at = f"blob {blob.digest} after {into.offset} of {blob.size} bytes"
                    e.message = f"{at}: {e.message}"
                    raise
                await asyncio.sleep(delay(failures, e.retry_after))

    async def _once(self, source: Source, blob: Descriptor, into: _Memory | _File) -> None:
        loop = asyncio.get_running_loop()
        told = 0.0
        async with source.blob(self._image, blob.digest, into.offset) as part:
            skip = into.offset - part.offset  # of a server that always begins at the beginning
            batch: list[bytes] = []
            size = 0
            try:
                async for chunk in part.chunks:
                    batch.append(chunk[skip:] if skip else chunk)
                    size += len(batch[-1])
                    skip -= min(skip, len(chunk))
                    if size >= BATCH:
                        full, batch, size = batch, [], 0
                        await into.write(full)
                        if loop.time() - told >= TELL_EVERY:
                            told = loop.time()
                            self._say(blob, into.offset)
            finally:
                if batch:  # what came before a cut is not fetched again
                    await into.write(batch)
        if into.offset < blob.size:
            raise RequestFailed(f"{source.name}: unexpected end of the blob", passing=True)

    def _say(self, blob: Descriptor, done: int) -> None:
        self._tell(
            LayerProgress(
                digest=blob.digest, state=progress.DOWNLOADING, done=done, total=blob.size
            )
        )


class _Memory:
    """A small blob, verified when it is whole."""

    def __init__(self, blob: Descriptor) -> None:
        self._blob = blob
        self.content = bytearray()

    @property
    def offset(self) -> int:
        return len(self.content)

    async def write(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self.content += chunk
        if self.offset > self._blob.size or (
            self.offset == self._blob.size and digest_of(bytes(self.content)) != self._blob.digest
        ):
            why = f"blob {self._blob.digest} has another digest or size"
            raise WrongContent(ImageError(why, reason="ErrImagePull"))


class _File:
    """A layer's writer, written to in a thread: it hashes, and the disk may be slow."""

    def __init__(self, writer: Writer, download: Download) -> None:
        self._writer = writer
        self._download = download

    @property
    def offset(self) -> int:
        return self._writer.offset

    async def write(self, chunks: list[bytes]) -> None:
        def write() -> None:
            for chunk in chunks:
                self._writer.write(chunk)

        await self._download.in_thread(_checked, self._writer, write)


def _checked(writer: Writer, action: Callable[[], object]) -> None:
    """Do something with *writer*; its errors are not the network's, and nobody goes on with its bytes."""
    try:
        action()
    except ImageError as e:
        writer.discard()
        raise WrongContent(e) from e
    except OSError as e:
        writer.discard()
        raise ImageError(f"can't write the blob: {e.strerror}", reason="ErrImagePull") from e
