"""Reading CRI logs: tail, since, time stamps, limit, follow. No polling: inotify wakes the follower.

A follower reads to the end of the file before it believes that the log is finished, and goes on in the next one after a rotation
(`log_files`): it gets every line that was not deleted before its turn came. Memory is one chunk, whatever the size of the log or the
slowness of its reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from minipod.errors import FailedPrecondition
from minipod.linux import inotify
from minipod.runtime.log_files import LogReader, open_live

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
    """Yield the log's text. With follow, until *finished* says that nothing more can come.

    The first piece is empty and comes at once. A log that is not there yet, of a container that has just been started, has no text. Raises
    FailedPrecondition before the first piece.
    """
    if options.tail_lines is not None and options.tail_lines < 0:
        raise FailedPrecondition("tailLines must be greater than or equal to 0")
    reader = _open(path)
    if reader is None and (finished() or not options.follow):
        yield b""
        return
    if reader is not None and options.tail_lines is not None:
        reader.seek(tail_offset(reader.fileno(), options.tail_lines))
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(contextlib.closing(_Files(path, reader)))
        waker = None
        if options.follow:
            waker = stack.enter_context(contextlib.closing(_Waker(path, until_finished)))
        yield b""
        async for text in _texts(files, Decoder(options), finished, waker):
            yield text


async def _texts(
    files: _Files, decoder: Decoder, finished: Callable[[], bool], waker: _Waker | None
) -> AsyncIterator[bytes]:
    while True:
        last = finished()
        while chunk := files.read():
            if text := decoder.feed(chunk):
                yield text
            if decoder.full:
                return
        if files.advance():
            continue
        if last or waker is None:
            return
        await waker.wait()


def _open(path: str) -> LogReader | None:
    try:
        return open_live(path)
    except FileNotFoundError:
        return None


class _Files:
    """A log's files in their order, as one. *reader*: where it begins; None: the log does not exist yet."""

    def __init__(self, path: str, reader: LogReader | None) -> None:
        self._path = path
        self._reader = reader
        self._next: LogReader | None = None

    def read(self) -> bytes:
        """Return what is there of the present file, b"" at its end."""
        return self._reader.read(CHUNK) if self._reader is not None else b""

    def advance(self) -> bool:
        """Whether `read` has more to give; to be asked at the end of a file.

        A file grows until the next one exists. So when that is found, this one is read once more before it is left.
        """
        if self._reader is None:
            self._reader = _open(self._path)
            return self._reader is not None
        if self._next is None:
            self._next = self._reader.next(self._path)
            return self._next is not None
        self._reader.close()
        self._reader, self._next = self._next, None
        return True

    def close(self) -> None:
        for one in (self._reader, self._next):
            if one is not None:
                one.close()


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
