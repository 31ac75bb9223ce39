"""Directories that are to go: out of everybody's sight at once, by a rename, and removed by a thread behind it.

To remove a directory can take milliseconds on a disk, each time, and many gigabytes take seconds. Nobody waits for it here: not the
end of a pod, as with containerd's snapshots and the kubelet's directories of pods, which are collected later. A process that ends
meanwhile leaves the rest to the next one (`sweep`).
"""

from __future__ import annotations

import _thread
import asyncio
import errno
import logging
import os
import shutil
import threading
import time
import uuid
from typing import Final

logger = logging.getLogger(__name__)

PAUSE: Final = 0.05  # seconds before the thread begins: what was put here is one of many steps of something that somebody waits for


class Trash:
    """Its *directories* are each on the file system of some of what is put into it. Its methods may be called from any thread."""

    def __init__(self, *directories: str) -> None:
        self._directories = directories
        self._lock = threading.Lock()
        self._works = False  # a thread empties it, and will look once more
        self._again = False
        self._stuck: set[str] = set()  # what has been told of

    def put(self, path: str) -> None:
        """Let *path* be gone; one that is none is fine. On a file system where there is no directory of ours it is removed at once.

        What can neither be moved nor removed stays, and the log tells of it: a disk that has become read-only is to keep no pod from
        its end. Whoever looks for what nobody owns finds it again. What is a mount point is not looked into.
        """
        if not self.move(path):
            self._remove(path)

    def move(self, path: str) -> bool:
        """Do what `put` does where a rename is enough; return whether that was so. For who can't wait."""
        for directory in self._directories:
            try:
                _move(path, directory)
            except FileNotFoundError:
                return True
            except OSError as e:
                if e.errno == errno.EBUSY:
                    self._stays(path, e)
                    return True
                if e.errno != errno.EXDEV:
                    return False
            else:
                self._begin(PAUSE)
                return True
        return False

    def sweep(self) -> None:
        """Remove what is there, behind the caller's back."""
        self._begin(0.0)

    def _begin(self, pause: float) -> None:
        with self._lock:
            self._again = True
            if self._works:
                return
            self._works = True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a thread's call
            _thread.start_new_thread(self._empty, (pause,))
        else:  # whose time is others' now: a new thread would begin by fighting for the interpreter
            loop.call_later(pause, _thread.start_new_thread, self._empty, (0.0,))

    def _empty(self, pause: float) -> None:
        while self._wanted():
            time.sleep(pause)
            for directory in self._directories:
                self._empty_one(directory)
            pause = PAUSE

    def _empty_one(self, directory: str) -> None:
        try:
            for name in os.listdir(directory):
                self._remove(f"{directory}/{name}")
        except FileNotFoundError:
            pass  # nothing was ever put here
        except OSError as e:
            logger.warning("what is to be removed can't be listed: %s", e)

    def _remove(self, path: str) -> None:
        """Remove one; of what stays (a file that is immutable, chattr(1)) the log tells once, for nothing else shows it."""
        errors: list[BaseException] = []
        shutil.rmtree(path, onerror=lambda _, __, error: errors.append(error[1]))
        if errors and os.path.lexists(path):
            self._stays(path, errors[0])

    def _stays(self, path: str, error: BaseException) -> None:
        if path not in self._stuck:
            self._stuck.add(path)
            logger.warning("what was removed stays on the disk: %s", error)

    def _wanted(self) -> bool:
        with self._lock:
            self._works, self._again = self._again, False
            return self._works


def _move(path: str, directory: str) -> None:
    """Rename *path* to a name that nothing has, in a directory that may be missing. Raises OSError."""
    place = f"{directory}/{uuid.uuid4().hex}"
    try:
        os.rename(path, place)
    except FileNotFoundError:  # which of the two? Another thread may be making the directory
        os.makedirs(directory, 0o700, exist_ok=True)
        os.rename(path, place)
