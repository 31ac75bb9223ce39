"""A client of attach, as the log pump sees it: a pipe for its copy of each stream, and what did not fit into it yet.

The log never waits for a client. What a client has not taken is kept, up to BEHIND bytes; one that is further behind is cut off: its
pipes are closed, and so they are when whoever reads them has gone, or when the container has ended and all was taken. Only then is WHOLE
written to one more pipe: its reader tells that end from the others, the death of the pump among them.

A container with stdinOnce has one client, which comes when it runs already. What it said before is kept for that one (`Unheard`).
"""

from __future__ import annotations

import contextlib
import os
import selectors
from collections import deque
from dataclasses import dataclass, field
from typing import Final

BEHIND: Final = 8 << 20  # bytes for each stream, besides what the pipe holds
EARLY: Final = 64 << 10  # bytes for both streams
WHOLE: Final = b"."


class Unheard:
    """What a container has said to nobody: all of it, or nothing when it said more than EARLY bytes."""

    def __init__(self) -> None:
        self._chunks: list[tuple[bytes, bytes]] = []
        self._left = EARLY

    def keep(self, stream: bytes, chunk: bytes) -> None:
        """It said *chunk*."""
        self._left -= len(chunk)
        if self._left >= 0:
            self._chunks.append((stream, chunk))
        else:
            self._chunks.clear()

    def tell(self, client: Attached) -> None:
        """Give it to the first that listens."""
        for stream, chunk in self._chunks:
            client.give(stream, chunk)


@dataclass(slots=True, eq=False)
class _Copy:
    """One stream's."""

    fd: int
    waiting: deque[bytes | memoryview] = field(default_factory=deque)
    size: int = 0  # of what waits

    def flush(self) -> bool:
        """Write what the pipe takes; False when nobody reads it."""
        while self.waiting:
            piece = self.waiting[0]
            try:
                written = os.write(self.fd, piece)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self.size -= written
            if written == len(piece):
                self.waiting.popleft()
            else:
                self.waiting[0] = memoryview(piece)[written:]
        return True


class Attached:
    """One client. The selector's owner calls `ready` for keys that have it as their data."""

    def __init__(
        self, selector: selectors.BaseSelector, pipes: dict[bytes, int], verdict: int
    ) -> None:
        """Take *pipes* over, the write end for each stream's name, and *verdict*, which gets WHOLE or nothing."""
        self._selector = selector
        self._verdict = verdict
        self._copies = {name: _Copy(fd) for name, fd in pipes.items()}
        self._ending = False
        for fd in pipes.values():
            os.set_blocking(fd, False)
            # A write end is never readable: this tells when its reader has gone.
            selector.register(fd, selectors.EVENT_READ, self)

    @property
    def is_open(self) -> bool:
        return bool(self._copies)

    def give(self, stream: bytes, chunk: bytes) -> None:
        """Copy *chunk*; cut the client off when it is too far behind."""
        copy = self._copies.get(stream)
        if copy is None:
            return
        was_behind = bool(copy.waiting)
        copy.waiting.append(chunk)
        copy.size += len(chunk)
        if copy.size > BEHIND or (not was_behind and not copy.flush()):
            self.close()
        elif copy.waiting and not was_behind:
            self._selector.modify(copy.fd, selectors.EVENT_WRITE, self)

    def ready(self, fd: int, events: int) -> None:
        """The pipe takes more, or its reader has gone."""
        name, copy = next((n, c) for n, c in self._copies.items() if c.fd == fd)
        if events & selectors.EVENT_READ or not copy.flush():
            self.close()
        elif copy.waiting:
            return
        elif self._ending:
            self._close(name)
        else:
            self._selector.modify(fd, selectors.EVENT_READ, self)

    def finish(self) -> None:
        """Nothing more comes: close each pipe when all of its stream was taken."""
        self._ending = True
        for name in [n for n, c in self._copies.items() if not c.waiting]:
            self._close(name)

    def close(self) -> None:
        """End it now, whatever was not taken. Idempotent."""
        self._ending = False
        for name in list(self._copies):
            self._close(name)

    def _close(self, name: bytes) -> None:
        fd = self._copies.pop(name).fd
        self._selector.unregister(fd)
        os.close(fd)
        if not self._copies:
            if self._ending:
                with contextlib.suppress(BrokenPipeError):  # its reader has gone just now
                    os.write(self._verdict, WHOLE)
            os.close(self._verdict)
