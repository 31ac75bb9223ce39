"""The mount namespaces of containers, each held until its process has ended.

The last process of a mount namespace ends late: before its parent hears of its end it has to unmount all that is in there, and to wait for
two RCU grace periods (fs/namespace.c, namespace_unlock; fs/overlayfs/super.c, ovl_free_fs). That is 0.5 ms, more on a busy machine. It
need not while somebody else has a descriptor of the namespace: he does it when he closes that.

    supervisor   "created", with the descriptor      daemon   holds it;  the process has ended -> closes it, behind that, in a thread

Nothing depends on it. What a daemon held that was killed the kernel closes, and the processes unmount their own again.
"""

from __future__ import annotations

import _thread
import asyncio
import os
from typing import Final

from minipod.runtime.supervisor_client import Answer
from minipod.spec.ids import ContainerId

PAUSE: Final = 0.05  # seconds: what waits for a container's end goes first


class HeldMounts:
    """Those of one node, by container."""

    def __init__(self) -> None:
        self._held: dict[ContainerId, int] = {}
        self._ending: dict[int, asyncio.TimerHandle] = {}

    def expect(self, container: ContainerId, created: asyncio.Future[Answer]) -> None:
        """Hold what comes with the answer *created*, also where who asked is cancelled just then."""

        def take(_: object) -> None:
            if not created.cancelled() and created.exception() is None:
                for namespace in created.result()[1]:
                    self.hold(container, namespace)

        created.add_done_callback(take)

    def hold(self, container: ContainerId, namespace: int) -> None:
        """Keep the descriptor *namespace*, which is ours from now on."""
        self._held[container] = namespace

    def release(self, container: ContainerId) -> None:
        """Close it, in a thread of its own: to unmount a network file system may take for ever. Idempotent."""
        if (fd := self._held.pop(container, -1)) >= 0:
            self._ending[fd] = asyncio.get_running_loop().call_later(PAUSE, self._end, fd)

    def _end(self, fd: int) -> None:
        del self._ending[fd]
        _thread.start_new_thread(os.close, (fd,))

    def close(self) -> None:
        """Close all. Idempotent."""
        for timer in self._ending.values():
            timer.cancel()
        for fd in (*self._held.values(), *self._ending):
            os.close(fd)
        self._held.clear()
        self._ending.clear()
