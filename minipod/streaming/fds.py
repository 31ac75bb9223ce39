"""Non-blocking descriptors in an event loop: read what is there, write all of it. The callers own and close them."""

from __future__ import annotations

import asyncio
import os
from typing import Final

CHUNK: Final = 32 << 10  # bytes; also what kubectl sends at once


async def read_some(fd: int, ended: asyncio.Event | None = None, size: int = CHUNK) -> bytes:
    """Read what is there, waiting for something; b"" at the end of file (EIO is a pty's).

    With *ended* set, nothing more is waited for: b"" when what was buffered has been read. A child that was left behind may hold a
    pipe open for ever, so a process' end is its exit and then what is buffered.
    """
    while True:
        try:
            return os.read(fd, size)
        except BlockingIOError:
            if ended is not None and ended.is_set():
                return b""
            await readable(fd, ended)
        except OSError:
            return b""


async def write_all(fd: int, payload: bytes) -> None:
    """Write everything, waiting while the pipe is full. Raises OSError (BrokenPipeError)."""
    view = memoryview(payload)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await writable(fd)


async def readable(fd: int, ended: asyncio.Event | None = None) -> None:
    """Wait until *fd* can be read, or *ended* is set."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(fd, _resolve, ready)
    waiting = None if ended is None else loop.create_task(ended.wait())
    if waiting is not None:
        waiting.add_done_callback(lambda _: _resolve(ready))
    try:
        await ready
    finally:
        loop.remove_reader(fd)
        if waiting is not None:
            waiting.cancel()


async def writable(fd: int) -> None:
    """Wait until *fd* takes something."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
