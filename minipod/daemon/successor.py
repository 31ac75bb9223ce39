"""The supervisor that follows one that died: started by the daemon, told of by inotify when it listens, reaped when it ends.

The daemon is the parent of every supervisor that it starts. One that finds another in its place ends with 0: that other is waited for.
"""

from __future__ import annotations

import asyncio
import os

from minipod.daemon.node import start_supervisor
from minipod.linux import inotify, process
from minipod.spec.instance import Instance


class Successor:
    """`start`, then connect and await `news` in turns. `close` lets the last one run on, unwatched."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._inotify = -1
        self._pidfds: dict[int, int] = {}  # by pid
        self._news = asyncio.Event()
        self._failed = False

    def start(self) -> None:
        """Start one. Raises OSError."""
        loop = asyncio.get_running_loop()
        if self._inotify < 0:
            self._inotify = inotify.inotify_init()
            inotify.inotify_add_watch(self._inotify, self._instance.run_dir, inotify.IN_MOVED_TO)
            loop.add_reader(self._inotify, self._renamed)
        self._failed = False
        self._news.clear()
        pid = start_supervisor(self._instance, -1)
        self._pidfds[pid] = process.pidfd_open(pid)
        loop.add_reader(self._pidfds[pid], self._ended, pid)

    async def news(self, timeout: float) -> bool:
        """Wait for something that makes another try to connect worthwhile; False when it failed to start, or after *timeout* seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return not self._failed

    def close(self) -> None:
        """Stop watching. Idempotent."""
        loop = asyncio.get_running_loop()
        for fd in (self._inotify, *self._pidfds.values()):
            if fd >= 0:
                loop.remove_reader(fd)
                os.close(fd)
        self._inotify = -1
        self._pidfds.clear()

    def _renamed(self) -> None:
        """A file of the node got its name: the socket, perhaps."""
        inotify.drain(self._inotify)
        self._news.set()

    def _ended(self, pid: int) -> None:
        fd = self._pidfds.pop(pid)
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
        _, status = os.waitpid(pid, 0)
        if status:
            self._failed = True
            self._news.set()
