"""Reading CRI logs: tail, since, time stamps, limit, follow. No polling: inotify wakes the follower.

A follower reads to the end of the file before it believes that the log is finished, and goes on in the new file after a rotation
(another inode at the same path). Memory is one chunk, whatever the size of the log or the slowness of its reader.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from minipod.errors import FailedPrecondition, NotFound
from minipod.linux import inotify

CHUNK = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What of a log is wanted. *since* is RFC 3339 in UTC, compared as text; "" is from the beginning."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: str = ""
    limit_bytes: int | None = None
    stream: str = ""  # "stdout" or "stderr" alone; "" is both


class Decoder:
    """CRI records to text: drops stamp, stream and tag; joins P parts."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._rest = b""
        self._inside = False  # in the middle of a line that came in parts
        self._left = options.limit_bytes

    @property
    def full(self) -> bool:
        return self._left is not None and self._left <= 0

    def feed(self, chunk: bytes) -> bytes:
        """Return the text of the whole records so far, cut at the limit."""
        data = self._rest + chunk
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        text = b"".join(self._record(line) for line in data[:end].split(b"\n")[:-1])
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        return text

    def _record(self, line: bytes) -> bytes:
        parts = line.split(b" ", 3)
        if len(parts) < 4:
            return b""
        when, stream, tag, text = parts
        if self._options.stream and stream.decode("ascii", "replace") != self._options.stream:
            return b""
        if self._options.since and when.decode("ascii", "replace") < self._options.since:
            return b""
        if self._options.timestamps and not self._inside:
            text = when + b" " + text
        self._inside = tag == b"P"
        return text if self._inside else text + b"\n"


async def read(
    path: str,
    options: LogOptions,
    finished: Callable[[], bool],
    until_finished: Callable[[], Awaitable[None]],
) -> AsyncIterator[bytes]:
    """Yield the log's text. With follow, until *finished* says that nothing more can come."""
    if options.tail_lines is not None and options.tail_lines < 0:
        raise FailedPrecondition("tailLines must be greater than or equal to 0")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if not options.follow or finished():
            if finished():
                return
            raise NotFound(f"no log at {path}") from None
        fd = -1
    decoder = Decoder(options)
    try:
        if fd >= 0 and options.tail_lines is not None:
            os.lseek(fd, tail_offset(fd, options.tail_lines), os.SEEK_SET)
        async for text in _follow(path, fd, decoder, options, finished, until_finished):
            yield text
    finally:
        if fd >= 0:
            os.close(fd)


async def _follow(  # noqa: PLR0912 one loop with its three ends
    path: str,
    fd: int,
    decoder: Decoder,
    options: LogOptions,
    finished: Callable[[], bool],
    until_finished: Callable[[], Awaitable[None]],
) -> AsyncIterator[bytes]:
    waker = _Waker(path, until_finished) if options.follow else None
    current = os.dup(fd) if fd >= 0 else -1
    try:
        while True:
            last = finished()
            while current >= 0 and (chunk := os.read(current, CHUNK)):
                if text := decoder.feed(chunk):
                    yield text
                if decoder.full:
                    return
            fresh = _rotated(path, current)
            if fresh >= 0:
                if current >= 0:
                    os.close(current)
                current = fresh
            elif last or waker is None:
                return
            else:
                await waker.wait()
    finally:
        if current >= 0:
            os.close(current)
        if waker is not None:
            waker.close()


def _rotated(path: str, fd: int) -> int:
    """Return a new descriptor when another file is at *path* now, else -1."""
    try:
        info = os.stat(path)
    except FileNotFoundError:
        return -1
    if fd >= 0:
        have = os.fstat(fd)
        if (have.st_dev, have.st_ino) == (info.st_dev, info.st_ino):
            return -1
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


class _Waker:
    """Wakes by a change of the file or its directory, or by the end of the container."""

    def __init__(self, path: str, until_finished: Callable[[], Awaitable[None]]) -> None:
        self._event = asyncio.Event()
        self._fd = inotify.inotify_init()
        directory = os.path.dirname(path)
        os.makedirs(directory, 0o755, exist_ok=True)
        mask = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO
        inotify.inotify_add_watch(self._fd, directory, mask)
        asyncio.get_running_loop().add_reader(self._fd, self._changed)
        self._task = asyncio.ensure_future(self._ended(until_finished))

    async def _ended(self, until_finished: Callable[[], Awaitable[None]]) -> None:
        await until_finished()
        self._event.set()

    def _changed(self) -> None:
        inotify.drain(self._fd)
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event.clear()

    def close(self) -> None:
        self._task.cancel()
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


def tail_offset(fd: int, lines: int) -> int:
    """Return where the last *lines* lines begin. Reads backwards, one chunk and the head of one record in memory.

    A line begins at offset 0 and behind every F record; P records belong to the next F.
    """
    end = os.fstat(fd).st_size
    if lines == 0:
        return end
    position, carry, found = end, b"", 0
    while position > 0:
        step = min(CHUNK, position)
        position -= step
        data = os.pread(fd, step, position) + carry
        first = (
            0 if position == 0 else data.find(b"\n") + 1
        )  # what comes before is a record's tail, or its middle
        if position and not first:
            carry = data
            continue
        at = position + data.rfind(b"\n") + 1
        for record in reversed(data[first:].split(b"\n")[:-1]):
            # The third word is the tag; the text behind it may say F, too.
            if record[:48].split(b" ", 3)[2:3] == [b"F"] and at < end:
                found += 1
                if found == lines:
                    return at
            at -= len(record) + 1
        carry = data[:first]
    return 0
