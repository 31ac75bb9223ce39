"""The files of one log: the live one, and those that were rotated beside it.

    N.log                   the live one
    N.log.<stamp>           rotated, the newest of them; a later one sorts behind an earlier one
    N.log.<stamp>.gz        older, compressed (same modification time)

A reader that follows goes from each file to the next one, however many rotations there were while it did something else. A rotation
renames the live file first, and the writer goes on in a new one later: until that exists, the renamed file still grows.
"""

from __future__ import annotations

import gzip
import os
from typing import BinaryIO, Final, cast

ZIPPED: Final = ".gz"


def rotated(path: str) -> list[str]:
    """The rotated files of a log, oldest first."""
    directory, name = os.path.split(path)
    found = [n for n in os.listdir(directory) if n.startswith(f"{name}.")]
    return [f"{directory}/{n}" for n in sorted(found, key=lambda n: (_stem(n), n))]


def _stem(name: str) -> str:
    return name.removesuffix(ZIPPED)


def open_live(path: str) -> LogReader:
    """Open the file that is written now. Raises FileNotFoundError between two of them, and before the first."""
    while True:
        older = rotated(path)
        reader = LogReader(path, _stem(older[-1]) if older else "")
        if rotated(path)[-1:] == older[-1:]:
            return reader
        reader.close()  # rotated meanwhile: it is unknown which one was opened


class LogReader:
    """One file that is open for reading. *after*: the rotated file before it, "" for none; None: it is rotated itself.

    Raises OSError (FileNotFoundError).
    """

    def __init__(self, name: str, after: str | None = None) -> None:
        self._raw = open(name, "rb", buffering=0)  # noqa: SIM115 `close` closes it
        self._is_named = (
            after is None
        )  # else it is, or was, the live one, and gets the name that follows on `after`
        self.after = _stem(name) if after is None else after
        zipped = name.endswith(ZIPPED)
        self._file = cast("BinaryIO", gzip.GzipFile(fileobj=self._raw)) if zipped else self._raw

    def read(self, size: int) -> bytes:
        """Return up to *size* bytes, b"" at the present end."""
        return self._file.read(size)

    def seek(self, offset: int) -> None:
        """Go to *offset* of a file that is not compressed."""
        self._raw.seek(offset)

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()

    def next(self, path: str) -> LogReader | None:
        """Open what follows on this file in the log at *path*; None while nothing does."""
        while not self._is_at(path):
            try:
                if later := self._later(path):
                    return LogReader(later[0])
                live = open_live(path)
            except FileNotFoundError:  # compressed or rotated just now; or there is none
                if not os.path.exists(path):
                    return None
                continue
            if live.after == self.after:
                return live
            live.close()  # there were rotations between the two looks
        return None

    def _is_at(self, name: str) -> bool:
        try:
            there = os.stat(name)
        except FileNotFoundError:
            return False
        mine = os.fstat(self.fileno())
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def _later(self, path: str) -> list[str]:
        """Return the rotated files behind this one, each but once: while one is compressed, the plain one is the whole one."""
        names = {_stem(n): n for n in reversed(rotated(path)) if _stem(n) > self.after}
        later = [names[stem] for stem in sorted(names)]
        if not self._is_named and later:
            written = os.stat(later[0]).st_mtime_ns
            if written <= os.fstat(self.fileno()).st_mtime_ns:  # else this one is deleted already
                self._is_named, self.after = True, _stem(later[0])
                del later[0]
        return later
