"""Empty directories and files that were made while nobody waited: who needs one on the way renames it.

A new inode is cheap on most disks, 20 us. On an ext4 without a journal it is looked for behind all that were removed in the last minutes
(fs/ext4/ialloc.c, recently_deleted), which takes ten times as long on a node whose pods come and go; a rename takes 20 us there, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections import deque

from minipod.linux import small_files

_DIRECTORY, _FILE = "d", "f"


class Spares:
    """Those of one file system, below *directory*. What is there at the start is taken over.

    Without a spare, and for a path on another file system, a new one is made.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._numbers = itertools.count()
        self._wanted = {_DIRECTORY: 0, _FILE: 0}
        self._waiting: dict[str, deque[str]] = {_DIRECTORY: deque(), _FILE: deque()}

    def keep(self, *, directories: int, files: int) -> None:
        """Keep so many from now on, which `more` makes."""
        self._wanted = {_DIRECTORY: directories, _FILE: files}
        for name in os.listdir(self._directory) if os.path.isdir(self._directory) else ():
            if name[:1] in self._waiting:
                self._waiting[name[:1]].append(f"{self._directory}/{name}")

    async def more(self) -> bool:
        """Make what is missing; False: there is nothing left to make. Raises OSError."""
        missing = [
            kind for kind, waiting in self._waiting.items()
            for _ in range(self._wanted[kind] - len(waiting))
        ]  # fmt: skip
        if missing:
            await asyncio.to_thread(self._make, missing)
        return False

    def make_directory(self, path: str, mode: int) -> None:
        """Do as os.makedirs(*path*, *mode*, exist_ok=True) does; of a spare one *mode* is not masked."""
        if os.path.isdir(path):
            return
        if (spare := self._take(_DIRECTORY)) is not None:
            if _given(spare, path, mode):
                return
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(spare)
        os.makedirs(path, mode, exist_ok=True)

    def make_file(self, path: str, mode: int) -> None:
        """Make an empty file of *mode*, whatever the umask. Raises FileExistsError, where no spare one replaces it, and OSError."""
        if (spare := self._take(_FILE)) is not None:
            if _given(spare, path, mode):
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(spare)
        small_files.create(path, b"", mode)
        os.chmod(path, mode)

    def _take(self, kind: str) -> str | None:
        waiting = self._waiting[kind]
        return waiting.popleft() if waiting else None

    def _make(self, kinds: list[str]) -> None:
        os.makedirs(self._directory, 0o700, exist_ok=True)
        for kind in kinds:
            path = f"{self._directory}/{kind}{os.getpid()}.{next(self._numbers)}"
            if kind == _DIRECTORY:
                os.mkdir(path, 0o700)
            else:
                small_files.create(path, b"", 0o600)
            self._waiting[kind].append(path)


def _given(spare: str, path: str, mode: int) -> bool:
    """Return whether it is *path* now; not where that is on another file system, or one of them is missing."""
    try:
        os.chmod(spare, mode)
        os.rename(spare, path)
    except OSError:
        return False
    return True
