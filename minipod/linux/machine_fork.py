"""Forks children that have no memory but their program.

A fork of an interpreter copies its page tables, and then every page that it touches: milliseconds, for a child that makes sixty
system calls. Here the calls are written down first. Machine code makes one after the other, forks on its way, and goes on to the
child's calls in the child. It needs nothing else, so nothing else is copied: all other memory is marked MADV_DONTFORK. So it stays until
somebody forks in another way (`show`): to mark again what is marked costs a fifth.

    ours    DONTFORK, enter the namespaces, clone3 ---> theirs   close_range, setsid, ... execve
            leave them, return                      |            on_error: tell, exit
            (no Python runs before this)            `- result 0

The child gets a private copy of the region.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from minipod.linux import process
from minipod.linux.flags import CloneFlag
from minipod.linux.libc import libc
from minipod.linux.machine import PAGE, STEP, TAIL, Block, Machine, Piece
from minipod.linux.program import Buffer, Call, equal

PARTS: Final = 2
TUNABLE: Final = "glibc.pthread.rseq=0"
_DONTFORK, _DOFORK = 10, 11


@dataclass(frozen=True, slots=True)
class Part:
    """A part of what a child does, and its last call when that fails."""

    pieces: Sequence[Piece]
    failed: Call


class ForkMachine(Machine):
    """The machine of a process with one thread that forks."""

    def __init__(self) -> None:
        """Raises OSError where this can't work: the caller has to do without."""
        if _registered():
            # The kernel writes there at every preemption, and kills who has no memory there (rseq(2)).
            raise OSError(
                errno.EBUSY, f"restartable sequences are on, without GLIBC_TUNABLES={TUNABLE}"
            )
        super().__init__()
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._base)
        self._fails = [self._fail, *(self._steps(TAIL) for _ in range(1, PARTS))]
        self._outcome = self._place(bytes(8))
        self._die = self._steps(1)
        self._write(self._die, [_exit(70)], fail=0)
        others = _others(self._base, self._base + self._size)
        self._hide = self._block(
            [Call("madvise", (*where, _DONTFORK), on_error=0) for where in others], 0
        )
        self._show = self._block(
            [Call("madvise", (*where, _DOFORK), on_error=0) for where in others], 0
        )
        self._begin_to_keep()
        self._try(others)
        self._hidden = False
        os.register_at_fork(before=self.show)
        self._try_comparison()

    def settle(self, leave: Sequence[Call]) -> Block:
        """Write a way back down for all launches. It must not fail; nothing may have been kept before."""
        self._free = self._kept
        block = self._block(leave, self._die)
        self._begin_to_keep()
        return block

    def launch(
        self,
        *parts: Part,
        flags: CloneFlag = CloneFlag(0),  # noqa: B008 an immutable flag
        cgroup: int = -1,
        note: int = 0,
        enter: Sequence[Call] = (),
        leave: Piece = (),
    ) -> int:
        """Run *enter*, fork a child for *parts* (PARTS at most), run *leave*; return the child's pid.

        The last part ends with execve. *leave* must not fail: this process ends then, for it is not where it should be.
        *flags*, *cgroup* and *note* as for `process.clone3`. Raises OSError, OverflowError for a program that is too long.
        """
        self._free, self._rooms = self._own, {}
        arguments = process.clone_arguments(flags, cgroup, note)
        fork = Call("clone3", (arguments, len(arguments)))
        child = self._program(parts)
        before = [*enter, fork]
        back = leave if isinstance(leave, Block) else self._block(leave, self._die)
        self._lead(back, self._end)
        start = self._steps(len(before))
        exits = self._write(start, before, fail=back.start, store=self._outcome, child=child)
        self._lead(Block(start, exits), back.start)
        self._lead(self._hide, start)
        self._hidden = True
        self._run(self._base + self._hide.start)
        (pid,) = struct.unpack_from("<q", self._region, self._outcome)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return int(pid)

    def show(self) -> None:
        """Let a child have our memory again: before any fork that is not `launch`. os.fork does it by itself. Idempotent."""
        if self._hidden:
            self._lead(self._show, self._end)
            self._run(self._base + self._show.start)
            self._hidden = False

    def _program(self, parts: Sequence[Part]) -> int:
        """Write what the child does; return the offset of its first step."""
        blocks: list[Block] = []
        for fail, part in zip(self._fails, parts, strict=False):
            self._write(fail, [part.failed, _exit(1)], fail=fail + STEP)
            blocks += [p if isinstance(p, Block) else self._block(p, fail) for p in part.pieces]
        for block, following in itertools.pairwise(blocks):
            self._lead(block, following.start)
        self._lead(blocks[-1], fail)
        return blocks[0].start

    def _try(self, others: Sequence[tuple[int, int]]) -> None:
        """Hide all other memory and show it again: a mapping that can't be shown again would be missing in every later child."""
        self._free = self._own
        show = [Call("madvise", (*where, _DOFORK), on_error=0) for where in others]
        results = self._place(bytes(8 * len(show)))
        shown = self._steps(len(show))
        self._lead(self._hide, shown)
        exits: tuple[int, ...] = ()
        for number, call in enumerate(show):
            exits = self._write(shown + number * STEP, [call], fail=0, store=results + 8 * number)
        self._lead(Block(shown, exits), self._end)
        self._run(self._base + self._hide.start)
        for result in struct.unpack_from(f"<{len(show)}q", self._region, results):
            if result not in (0, -errno.ENOMEM):  # ENOMEM: there are gaps, too
                raise OSError(-result, f"madvise: {os.strerror(-result)}")

    def _try_comparison(self) -> None:
        """Compare with what is there, and with what is not: an error would be taken for a difference later."""
        self._free, self._rooms = self._own, {}
        word = Buffer(4)
        calls = [equal(word, value, yes=0, no=0) for value in (0, 1)]
        results, start = self._place(bytes(8 * len(calls))), self._steps(len(calls))
        exits: tuple[int, ...] = ()
        for number, call in enumerate(calls):
            exits = self._write(start + number * STEP, [call], fail=0, store=results + 8 * number)
        self._lead(Block(start, exits), self._end)
        self._run(self._base + start)
        found = struct.unpack_from("<2q", self._region, results)
        if found != (0, -errno.EAGAIN):
            raise OSError(-found[1] or -found[0], "futex compares nothing")


def _exit(code: int) -> Call:
    return Call("exit_group", (code,))


def _registered() -> bool:
    """Whether this thread has a restartable sequence area; a C library before 2.35 does not know of any."""
    try:
        return bool(ctypes.c_uint.in_dll(libc, "__rseq_size").value)
    except ValueError:
        return False


def _others(begin: int, end: int) -> list[tuple[int, int]]:
    """Return (address, length) of what a process has, and may get, without *begin* to *end* and the kernel's mappings (vdso, vvar)."""
    kept, last = [(begin, end)], 0
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        for line in maps:
            bounds, *_, name = line.split()
            low, _, high = bounds.partition("-")
            if name == "[vsyscall]":
                continue  # not below TASK_SIZE
            last = max(last, int(high, 16))
            if name.startswith("[v"):
                kept.append((int(low, 16), int(high, 16)))
    ranges, at = [], PAGE
    for low_end, high_begin in [*sorted(kept), (last, last)]:
        if low_end > at:
            ranges.append((at, low_end - at))
        at = high_begin
    return ranges
