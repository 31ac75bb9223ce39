"""Directories that are to go: out of everybody's sight at once, by a rename, and removed by a thread behind it.

To remove a directory can take milliseconds on a disk, each time, and many gigabytes take seconds. Nobody waits for it here: not the
end of a pod, as with containerd's snapshots and the kubelet's directories of pods, which are collected later. A process that ends
meanwhile leaves the rest to the next one (`sweep`).
"""

from __future__ import annotations

import _thread
import logging
import os
import shutil
import threading
import uuid

logger = logging.getLogger(__name__)


class Trash:
    """One directory of them, *directory*, on the file system of what is put into it. Its methods may be called from any thread."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._works = False  # a thread empties it, and will look once more
        self._again = False
        self._stuck: set[str] = set()  # what has been told of

    def put(self, path: str) -> None:
        """Let *path* be gone; one that is none is fine. Raises OSError where it can neither be moved nor removed."""
        try:
            os.makedirs(self._directory, 0o700, exist_ok=True)
            os.rename(path, f"{self._directory}/{uuid.uuid4().hex}")
        except FileNotFoundError:
            return
        except OSError:  # on another file system, or something is mounted there
            shutil.rmtree(path)
            return
        self.sweep()

    def sweep(self) -> None:
        """Remove what is there, behind the caller's back."""
        with self._lock:
            self._again = True
            if self._works:
                return
            self._works = True
        _thread.start_new_thread(
            self._empty, ()
        )  # threading.Thread would wait here until it has begun

    def _empty(self) -> None:
        while self._wanted():
            try:
                for name in os.listdir(self._directory):
                    self._remove(f"{self._directory}/{name}")
            except FileNotFoundError:
                pass  # nothing was ever put here
            except OSError as e:
                logger.warning("what is to be removed can't be listed: %s", e)

    def _remove(self, path: str) -> None:
        """Remove one; of what stays (a file that is immutable, chattr(1)) the log tells once, for nothing else shows it."""
        errors: list[BaseException] = []
        shutil.rmtree(path, onerror=lambda _, __, error: errors.append(error[1]))
        if errors and path not in self._stuck and os.path.lexists(path):
            self._stuck.add(path)
            logger.warning("what was removed stays on the disk: %s", errors[0])

    def _wanted(self) -> bool:
        with self._lock:
            self._works, self._again = self._again, False
            return self._works
