"""Lets go of what pins a sandbox's namespaces: from a thread, without a process for it.

The vault is a mount namespace (ARCHITECTURE.md). Removing a mount's target from another mount namespace detaches the mount
and all below it (vfs_rmdir calls detach_mounts; EBUSY is for mounts of one's own namespace), so the directory of the vault, once open,
is enough. It is opened by a thread that shares its file system context with nobody (setns(2)) and ends: no other code ever runs there.
"""

from __future__ import annotations

import contextlib
import os
import threading

from minipod.errors import SetupFailed
from minipod.linux import namespaces
from minipod.linux.flags import CloneFlag


class Vault:
    """The pins of one node; *path* is the pin of the vault itself."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._root = -1  # its directory, open from the first drop on

    def drop(self, sandbox: str) -> None:
        """Let a sandbox's namespaces and /dev/shm go. Idempotent. Waits for the kernel: call it in a thread. Raises SetupFailed."""
        try:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(sandbox, dir_fd=self._directory())
        except OSError as e:
            raise SetupFailed(
                "unpin", errno=e.errno or 0, subject=sandbox, detail=str(e.strerror)
            ) from e

    def _directory(self) -> int:
        with self._lock:
            if self._root < 0:
                self._root = self._open()
            return self._root

    def close(self) -> None:
        """Close the vault's directory. Idempotent."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _open(self) -> int:
        opened: list[int | OSError] = []
        thread = threading.Thread(target=_open_root, args=(self.path, opened))
        thread.start()
        thread.join()
        if isinstance(found := opened[0], OSError):
            raise found
        return found


def _open_root(path: str, opened: list[int | OSError]) -> None:
    try:
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            namespaces.unshare(CloneFlag.CLONE_FS)
            namespaces.setns(namespace, CloneFlag.CLONE_NEWNS)
            opened.append(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        finally:
            os.close(namespace)
    except OSError as e:
        opened.append(e)
