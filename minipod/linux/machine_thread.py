"""Runs a program in a thread that has no interpreter, beside an event loop that goes on meanwhile.

A thread of Python's that makes sixty short system calls lets go of the interpreter's lock sixty times, and waits for it as often: until the
loop has nothing to do. The C library starts this one right in the machine code, so it never asks for that lock.

    loop     start: pthread_create ---> thread   enter namespaces, then on its own: descriptors, working directory
             wait for the bell     <---          the program; ring: done, or failed at the first call that may not fail

The thread ends with its program, and with it all that it entered. What it opens is closed then, too.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Final

from minipod.linux.flags import CloneFlag
from minipod.linux.libc import libc
from minipod.linux.machine import Block, Machine, Piece
from minipod.linux.process import UINT_MAX
from minipod.linux.program import Call

SIZE: Final = 320 << 10  # bytes
OWN: Final = 64 << 10
DONE, FAILED = 1, 2
CLOSE_RANGE_UNSHARE: Final = 1 << 1
_FIRST: Final = 3  # of the descriptors that are not stdin, stdout or stderr


class ThreadMachine(Machine):
    """One thread at a time. *bell*: an eventfd, readable when it is done."""

    def __init__(self) -> None:
        """Raises OSError where this can't work."""
        super().__init__(SIZE, OWN)
        self.bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: ctypes.c_ulong | None = None  # pthread_t; started, and not joined
        self._done = self._block([_ring(self.bell, DONE)], self._end)
        self._lead(self._done, self._end)
        failed = self._write(self._fail, [_ring(self.bell, FAILED)], fail=self._end)
        self._lead(Block(self._fail, failed), self._end)
        self._apart = self._block(
            [
                Call("unshare", (int(CloneFlag.CLONE_FS),)),
                # Copies no more than what is below: what others close meanwhile is closed.
                Call("close_range", (self.bell + 1, UINT_MAX, CLOSE_RANGE_UNSHARE)),
                Call("close_range", (_FIRST, self.bell - 1, 0), on_error=0),
            ],
            self._fail,
        )
        self._begin_to_keep()

    @property
    def descriptor(self) -> int:
        """Return the number of the first descriptor that a program opens, and of each later one when none is left open."""
        return _FIRST + (self.bell == _FIRST)

    def start(self, enter: Sequence[Call], program: Piece) -> None:
        """Start a thread that makes the calls *enter* with our descriptors, then *program* with its own.

        The one before must have rung. Raises OSError, OverflowError.
        """
        self._join()
        self._free, self._rooms = self._own, {}
        entrance = self._block(enter, self._fail)
        block = program if isinstance(program, Block) else self._block(program, self._fail)
        self._lead(entrance, self._apart.start)
        self._lead(self._apart, block.start)
        self._lead(block, self._done.start)
        code, step = ctypes.c_void_p(self._base), ctypes.c_void_p(self._base + entrance.start)
        thread = ctypes.c_ulong()
        if error := libc.pthread_create(ctypes.byref(thread), None, code, step):
            raise OSError(error, f"pthread_create: {os.strerror(error)}")
        self._thread = thread

    def succeeded(self) -> bool:
        """Return whether every call succeeded that had to, once the bell has rung. Raises BlockingIOError before."""
        return os.eventfd_read(self.bell) == DONE

    def close(self) -> None:
        """Wait for the thread's end. Idempotent."""
        self._join()
        if self.bell >= 0:
            os.close(self.bell)
            self.bell = -1

    def _join(self) -> None:
        """Wait for the thread: what it runs must stay as it is until then, and a moment is left when it has rung."""
        if self._thread is not None:
            libc.pthread_join(self._thread, None)
            self._thread = None


def _ring(bell: int, what: int) -> Call:
    return Call("write", (bell, what.to_bytes(8, "little"), 8))
