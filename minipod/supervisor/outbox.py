"""What one of our processes is told faster than it reads: in order, and nothing is lost.

A SEQPACKET socket takes some hundred messages (net.core.wmem_default). The log pump of a node with more containers is handed more
when it is started again, and none of them may wait for it in the supervisor's loop.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable

from minipod.supervisor import protocol


class Outbox:
    """The way to one socket. *watch* is asked with True to call `flush` when the socket can be written, with False to stop that."""

    def __init__(self, sock: socket.socket, watch: Callable[[bool], None]) -> None:
        self._sock = sock
        self._watch = watch
        self._waiting: deque[tuple[protocol.Message, list[int]]] = deque()

    def send(self, message: protocol.Message, fds: list[int]) -> None:
        """Send, now or later; of descriptors that wait we keep copies. A peer that is gone is not told."""
        if not self._waiting and self._sent(message, fds):
            return
        self._waiting.append((message, [os.dup(fd) for fd in fds]))
        if len(self._waiting) == 1:
            self._watch(True)

    def flush(self) -> None:
        """Send what the socket takes."""
        while self._waiting and self._sent(*self._waiting[0]):
            for fd in self._waiting.popleft()[1]:
                os.close(fd)
            if not self._waiting:
                self._watch(False)

    def close(self) -> None:
        """Let go of what was not sent."""
        while self._waiting:
            for fd in self._waiting.popleft()[1]:
                os.close(fd)

    def _sent(self, message: protocol.Message, fds: list[int]) -> bool:
        try:
            protocol.send(self._sock, message, fds)
        except BlockingIOError:
            return False
        except ConnectionError:
            pass  # a new one is told everything
        return True
