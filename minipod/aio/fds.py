"""Non-blocking descriptors in an event loop: read what is there, write all of it. The callers own and close them."""

from __future__ import annotations

import asyncio
import os
from typing import Final

CHUNK: Final = 64 << 10  # bytes: what a pipe holds by default


class Source:
    """A descriptor that is read to its end, or to the end of what is buffered once `finish` was called.

    A child that was left behind may hold a pipe open for ever, so the end of a process' output is its exit and then what is buffered.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._finishing = False
        self._ready: asyncio.Future[None] | None = None  # somebody waits

    async def read(self, size: int = CHUNK) -> bytes:
        """Return what is there, waiting for something; b"" at the end (EIO is a pty's)."""
        while (chunk := self.take(size)) is None:
            if self._finishing:
                return b""
            await self._readable()
        return chunk

    def take(self, size: int = CHUNK) -> bytes | None:
        """Return what is there, as `read` does; None: nothing is."""
        try:
            return os.read(self._fd, size)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    @property
    def is_finishing(self) -> bool:
        """Whether only what is buffered is read."""
        return self._finishing

    def finish(self) -> None:
        """Nothing more is waited for."""
        self._finishing = True
        if self._ready is not None:
            resolve(self._ready)

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        loop.add_reader(self._fd, resolve, self._ready)
        try:
            await self._ready
        finally:
            loop.remove_reader(self._fd)
            self._ready = None


async def write_all(fd: int, payload: bytes) -> None:
    """Write everything, waiting while the pipe is full. Raises OSError (BrokenPipeError)."""
    view = memoryview(payload)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await _writable(fd)


async def _writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def resolve(future: asyncio.Future[None]) -> None:
    """Wake who waits. Idempotent."""
    if not future.done():
        future.set_result(None)
