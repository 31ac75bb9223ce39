"""The CRI log format: `2016-10-06T00:17:09.669794202Z stdout F text\\n`, tag P for a part of a line, F for its end.

`format_lines` is pure; `LogFile` appends and can be reopened after a rotation. One time stamp serves all lines of a chunk: it is the
time of the read, and formatting a stamp per line would halve the throughput.
"""

from __future__ import annotations

import contextlib
import os
import time

LINE_MAX = 16 << 10  # bytes; a longer line is split into P parts (kubelet-rules 1.19)


def stamp(nanoseconds: int) -> bytes:
    """Return RFC 3339 with nanoseconds, UTC."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    t = time.gmtime(seconds)
    return b"%04d-%02d-%02dT%02d:%02d:%02d.%09dZ" % (*t[:6], rest)


def format_lines(stream: bytes, text: bytes, now: bytes) -> tuple[bytes, bytes]:
    """Return (records for the whole lines in *text*, the incomplete rest).

    A rest that has grown to LINE_MAX is written as P records, so that it never grows further.
    """
    full = b"%s %s F " % (now, stream)
    part = b"%s %s P " % (now, stream)
    end = text.rfind(b"\n")
    rest = text[end + 1 :]
    records = b""
    if end >= 0:
        body = text[:end]
        if has_long_line(body):
            records = b"".join(split_line(line, full, part) for line in body.split(b"\n"))
        else:
            records = b"".join((full, body.replace(b"\n", b"\n" + full), b"\n"))
    if len(rest) >= LINE_MAX:
        whole = len(rest) // LINE_MAX * LINE_MAX
        records += b"".join(
            part + rest[i : i + LINE_MAX] + b"\n" for i in range(0, whole, LINE_MAX)
        )
        rest = rest[whole:]
    return records, rest


def has_long_line(body: bytes) -> bool:
    """Whether a line is longer than LINE_MAX; looks at few of the lines to say no."""
    begin = 0
    while len(body) - begin > LINE_MAX:
        end = body.rfind(b"\n", begin, begin + LINE_MAX + 1)
        if end < 0:
            return True
        begin = end + 1
    return False


def split_line(line: bytes, full: bytes, part: bytes) -> bytes:
    """Return the records of one line of any length."""
    pieces = [line[i : i + LINE_MAX] for i in range(0, len(line), LINE_MAX)] or [b""]
    return b"".join(part + p + b"\n" for p in pieces[:-1]) + full + pieces[-1] + b"\n"


def partial_record(stream: bytes, rest: bytes, now: bytes) -> bytes:
    """Return the record of an incomplete line."""
    return b"%s %s P %s\n" % (now, stream, rest)


class LogFile:
    """An append-only file; its directory is made when missing. *limit*: the size in bytes (0: none) from which it `is_full`.

    One that can't be opened (a full disk, a read-only one) is tried again at every write, and stops no other's log.
    """

    def __init__(self, path: str, limit: int = 0) -> None:
        self._path = path
        self._limit = limit
        self._size = 0
        self._fd = -1
        self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            try:
                self._fd = os.open(self._path, flags, 0o640)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(self._path), 0o755, exist_ok=True)
                self._fd = os.open(self._path, flags, 0o640)
            self._size = os.fstat(self._fd).st_size

    @property
    def is_full(self) -> bool:
        """Whether it is time to rotate it."""
        return 0 < self._limit <= self._size

    def write(self, records: bytes) -> bool:
        """Append; True when it has just become full. What the disk refuses (full) is lost, and the container goes on."""
        before = self.is_full
        view = memoryview(records)
        if self._fd < 0:
            self._open()
        try:
            while view:
                written = os.write(self._fd, view)
                self._size += written
                view = view[written:]
        except OSError:
            pass
        return self.is_full and not before

    def reopen(self) -> None:
        """Go on in a fresh file at the same path."""
        self.close()
        self._open()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
