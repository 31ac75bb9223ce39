"""Runs programs of system calls by 90 bytes of machine code: what a child does that has no memory but its program.

A fork of an interpreter copies its page tables, and then every page that it touches: milliseconds, for a child that makes sixty
system calls. Here the calls are written down first. Machine code makes one after the other, forks on its way, and goes on to the
child's calls in the child. It needs nothing else, so nothing else is copied: all other memory is marked MADV_DONTFORK for that moment.

    ours    DONTFORK, enter the namespaces, clone3 ---> theirs   close_range, setsid, ... execve
            leave them, DOFORK, return              |            on_error: tell, exit
            (no Python runs before this)            `- result 0

A step is one call with its arguments, an address that takes the result, and where to go on when it fails, is 0, or neither. Words are
64 bits, in a region of its own that the child gets a private copy of. What many children do alike is written down once (a block).
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from minipod.linux import process
from minipod.linux.flags import CloneFlag
from minipod.linux.libc import MACHINE, check, libc
from minipod.linux.program import FAIL, Argument, Buffer, Call, Result, Text
from minipod.linux.syscalls import table

SIZE: Final = 2 << 20  # bytes of the region; a page that was never written costs nothing
_PAGE: Final = mmap.PAGESIZE
_KEPT: Final = SIZE - (320 << 10)  # where the blocks that are kept end
_STEP: Final = 88  # bytes: number, six arguments, where the result goes; where to go on failure, on 0, and else
PARTS: Final = 2
_ROOM: Final = 256  # bytes, for a text; or a multiple
_PACK: Final = struct.Struct("<11Q").pack_into
_TAIL: Final = 2  # steps of a part's failure
TUNABLE: Final = "glibc.pthread.rseq=0"
_STORE: Final = 56  # where in a step the address for its result is
_WORD: Final = 2**64 - 1
_END: Final = _WORD
_DONTFORK, _DOFORK = 10, 11

_X86_64 = bytes.fromhex(
    "53"  # push rbx
    "4889fb"  # mov rbx, rdi
    "488b03"  # next: mov rax, [rbx]
    "4885c0"  # test rax, rax
    "784b"  # js done
    "488b7b08"  # mov rdi, [rbx+8]
    "488b7310"  # mov rsi, [rbx+16]
    "488b5318"  # mov rdx, [rbx+24]
    "4c8b5320"  # mov r10, [rbx+32]
    "4c8b4328"  # mov r8, [rbx+40]
    "4c8b4b30"  # mov r9, [rbx+48]
    "0f05"  # syscall
    "488b4b38"  # mov rcx, [rbx+56]
    "4885c9"  # test rcx, rcx
    "7403"  # jz judge
    "488901"  # mov [rcx], rax
    "488b4b40"  # judge: mov rcx, [rbx+64]
    "483d01f0ffff"  # cmp rax, -4095
    "7309"  # jae branch (an error)
    "4885c0"  # test rax, rax
    "750e"  # jnz step
    "488b4b48"  # mov rcx, [rbx+72]
    "4885c9"  # branch: test rcx, rcx
    "7405"  # jz step
    "4889cb"  # mov rbx, rcx
    "ebb3"  # jmp next
    "488b5b50"  # step: mov rbx, [rbx+80]
    "ebad"  # jmp next
    "5b"  # done: pop rbx
    "c3"  # ret
)
# The kernel makes new instructions visible when their page becomes executable (arch/arm64/mm/flush.c, __sync_icache_dcache).
_AARCH64 = struct.pack(
    "<21I",
    0xAA0003E9,  # mov x9, x0
    0xF9400128,  # next: ldr x8, [x9]
    0xB7F80248,  # tbnz x8, #63, done
    0xA9408520,  # ldp x0, x1, [x9, #8]
    0xA9418D22,  # ldp x2, x3, [x9, #24]
    0xA9429524,  # ldp x4, x5, [x9, #40]
    0xD4000001,  # svc #0
    0xF9401D2A,  # ldr x10, [x9, #56]
    0xB400004A,  # cbz x10, judge
    0xF9000140,  # str x0, [x10]
    0xF940212A,  # judge: ldr x10, [x9, #64]
    0xB13FFC1F,  # cmn x0, #4095
    0x54000062,  # b.hs branch (an error)
    0xB50000A0,  # cbnz x0, step
    0xF940252A,  # ldr x10, [x9, #72]
    0xB400006A,  # branch: cbz x10, step
    0xAA0A03E9,  # mov x9, x10
    0x17FFFFF0,  # b next
    0xF9402929,  # step: ldr x9, [x9, #80]
    0x17FFFFEE,  # b next
    0xD65F03C0,  # done: ret
)
_CODE: Final = {"x86_64": _X86_64, "aarch64": _AARCH64}


@dataclass(frozen=True, slots=True)
class Block:
    """Calls that stay in the region for many children (`Machine.keep`)."""

    start: int  # the offset of its first step
    exits: tuple[int, ...]  # the offsets of the words that say where to go behind it
    texts: tuple[tuple[int, int], ...] = ()  # the offset and the bytes of room of each text


Piece = Block | Sequence[Call]  # no call leads out of its piece


@dataclass(frozen=True, slots=True)
class Part:
    """A part of what a child does, and its last call when that fails."""

    pieces: Sequence[Piece]
    failed: Call


class Machine:
    """The region with the machine code, and the programs in it: one at a time, in a process with one thread.

    code | how the parts of a program fail | blocks that are kept | the program of this launch
    """

    def __init__(self) -> None:
        """Raises OSError where this can't work: the caller has to do without."""
        if _registered():
            # The kernel writes there at every preemption, and kills who has no memory there (rseq(2)).
            raise OSError(
                errno.EBUSY, f"restartable sequences are on, without GLIBC_TUNABLES={TUNABLE}"
            )
        self._numbers = table(MACHINE)
        self._region = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._region))
        self._region[: len(_CODE[MACHINE])] = _CODE[MACHINE]
        # Never writable and executable at once.
        executable = mmap.PROT_READ | mmap.PROT_EXEC
        check(libc.mprotect(ctypes.c_void_p(self._base), ctypes.c_size_t(_PAGE), executable))
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._base)
        self._free, self._limit = (
            _PAGE,
            SIZE,
        )  # where the next thing goes, and where there is no more room
        self._rooms: dict[int, int] = {}
        self._givers: dict[int, int] = {}
        self._texts: dict[int, tuple[int, int]] | None = None  # of the block that is being kept
        self._fails = [self._steps(_TAIL) for _ in range(PARTS)]
        self._outcome = self._place(bytes(8))
        self._end = self._steps(1)
        self._word(self._end, _END)
        self._die = self._steps(1)
        self._write(self._die, [_exit(70)], fail=0)
        others = _others(self._base, self._base + SIZE)
        self._hide = self._block(
            [Call("madvise", (*where, _DONTFORK), on_error=0) for where in others], 0
        )
        self._show = self._block(
            [Call("madvise", (*where, _DOFORK), on_error=0) for where in others], 0
        )
        self._kept = self._first_kept = self._free
        self._try(others)

    def keep(self, calls: Sequence[Call]) -> Block | None:
        """Return *calls* as a block, which any later program's first part may have; None: there is no more room (`forget`)."""
        free, limit, rooms = self._free, self._limit, self._rooms
        self._free, self._limit, self._rooms = self._kept, _KEPT, {}
        self._texts = {}
        try:
            block = self._block(calls, self._fails[0])
        except OverflowError:
            return None
        else:
            self._kept = self._free
            return replace(block, texts=tuple(self._texts.values()))
        finally:
            self._free, self._limit, self._rooms, self._texts = free, limit, rooms, None

    def fill(self, block: Block, texts: Sequence[bytes]) -> bool:
        """Give a block its texts, in the order in which its calls name them first; False: one of them is longer than its room."""
        for text, (at, room) in zip(texts, block.texts, strict=True):
            if len(text) >= room:
                return False
            self._region[at : at + len(text) + 1] = text + b"\0"
        return True

    def forget(self) -> None:
        """Give up all blocks that are kept: none may be used again."""
        self._kept = self._first_kept

    def launch(
        self,
        *parts: Part,
        flags: CloneFlag = CloneFlag(0),  # noqa: B008 an immutable flag
        cgroup: int = -1,
        enter: Sequence[Call] = (),
        leave: Sequence[Call] = (),
    ) -> int:
        """Run *enter*, fork a child for *parts* (PARTS at most), run *leave*; return the child's pid.

        The last part ends with execve. *leave* must not fail: this process ends then, for it is not where it should be.
        *flags* and *cgroup* as for `process.clone3`. Raises OSError, OverflowError for a program that is too long.
        """
        self._free, self._rooms = _KEPT, {}
        arguments = process.clone_arguments(flags, cgroup)
        fork = Call("clone3", (arguments, len(arguments)))
        child = self._program(parts)
        before = [*enter, fork]
        back = self._block(leave, self._die)
        self._lead(back, self._show.start)
        self._lead(self._show, self._end)
        start = self._steps(len(before))
        exits = self._write(start, before, fail=back.start, store=self._outcome, child=child)
        self._lead(Block(start, exits), back.start)
        self._lead(self._hide, start)
        self._run(self._base + self._hide.start)
        (pid,) = struct.unpack_from("<q", self._region, self._outcome)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return int(pid)

    def _program(self, parts: Sequence[Part]) -> int:
        """Write what the child does; return the offset of its first step."""
        blocks: list[Block] = []
        for fail, part in zip(self._fails, parts, strict=False):
            self._write(fail, [part.failed, _exit(1)], fail=fail + _STEP)
            blocks += [p if isinstance(p, Block) else self._block(p, fail) for p in part.pieces]
        for block, following in itertools.pairwise(blocks):
            self._lead(block, following.start)
        self._lead(blocks[-1], fail)
        return blocks[0].start

    def _try(self, others: Sequence[tuple[int, int]]) -> None:
        """Hide all other memory and show it again: a mapping that can't be shown again would be missing in every later child."""
        self._free = _KEPT
        show = [Call("madvise", (*where, _DOFORK), on_error=0) for where in others]
        results = self._place(bytes(8 * len(show)))
        shown = self._steps(len(show))
        self._lead(self._hide, shown)
        exits: tuple[int, ...] = ()
        for number, call in enumerate(show):
            exits = self._write(shown + number * _STEP, [call], fail=0, store=results + 8 * number)
        self._lead(Block(shown, exits), self._end)
        self._run(self._base + self._hide.start)
        for result in struct.unpack_from(f"<{len(show)}q", self._region, results):
            if result not in (0, -errno.ENOMEM):  # ENOMEM: there are gaps, too
                raise OSError(-result, f"madvise: {os.strerror(-result)}")

    def _block(self, calls: Sequence[Call], fail: int) -> Block:
        """Write *calls*, one that does nothing where there is none."""
        self._givers = {}
        calls = calls or [Call("getpid", ())]
        start = self._steps(len(calls))
        return Block(start, self._write(start, calls, fail=fail))

    def _lead(self, block: Block, to: int) -> None:
        for word in block.exits:
            self._word(word, self._base + to)

    def _write(
        self, at: int, calls: Sequence[Call], *, fail: int, store: int = 0, child: int = 0
    ) -> tuple[int, ...]:
        """Write the steps of *calls*; return the exits. All places are offsets in the region."""
        base, end = self._base, at + len(calls) * _STEP
        exits: list[int] = []
        for call in calls:
            words = [self._numbers[call.name], 0, 0, 0, 0, 0, 0, base + store if store else 0]
            for number, argument in enumerate(call.arguments, 1):
                if type(argument) is int:
                    words[number] = argument & _WORD
                elif isinstance(argument, Result):  # its giver puts it right into this step
                    self._word(self._givers[id(argument)] + _STORE, base + at + 8 * number)
                else:
                    words[number] = self._argument(argument)
            if isinstance(call.gives, Result):
                self._givers[id(call.gives)] = at
            elif call.gives is not None:
                words[7] = self._argument(call.gives)
            on_zero = call.then if call.on_zero is None else call.on_zero
            for place, way in ((64, call.on_error), (72, on_zero), (80, call.then)):
                to = fail if way == FAIL else at + (way + 1) * _STEP
                if place == 72 and call.name == "clone3":
                    to = child
                elif to == end:
                    exits.append(at + place)
                words.append(base + to)
            _PACK(self._region, at, *words)
            at += _STEP
        return tuple(exits)

    def _argument(self, argument: Argument) -> int:
        """Return what the call is given for it: an address, for most; a `Result` is not known yet."""
        if isinstance(argument, int):
            return argument & _WORD
        if isinstance(argument, Text) and self._texts is not None:
            return self._base + self._roomy(argument)
        if isinstance(argument, bytes):
            return self._base + self._place(argument + b"\0")
        if isinstance(argument, Buffer):
            if id(argument) not in self._rooms:
                self._rooms[id(argument)] = self._place(bytes(argument.size))
            return self._base + self._rooms[id(argument)]
        assert isinstance(argument, tuple)
        if id(argument) not in self._rooms:
            words = [self._argument(a) for a in argument]
            self._rooms[id(argument)] = self._place(struct.pack(f"<{len(words)}Q", *words))
        return self._base + self._rooms[id(argument)]

    def _roomy(self, text: Text) -> int:
        """Place a text of the block that is being kept, once, with room for another one; return its offset."""
        assert self._texts is not None
        if id(text) not in self._texts:
            room = (len(text) // _ROOM + 1) * _ROOM
            self._texts[id(text)] = (self._place(text.ljust(room, b"\0")), room)
        return self._texts[id(text)][0]

    def _steps(self, number: int) -> int:
        return self._place(bytes(number * _STEP))

    def _place(self, content: bytes) -> int:
        """Copy *content* into the region; return its offset."""
        at, self._free = self._free, self._free + (len(content) + 7) // 8 * 8
        if self._free > self._limit:
            raise OverflowError(f"a program of more than {SIZE} bytes")
        self._region[at : at + len(content)] = content
        return at

    def _word(self, at: int, word: int) -> None:
        struct.pack_into("<Q", self._region, at, word)


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
    ranges, at = [], _PAGE
    for low_end, high_begin in [*sorted(kept), (last, last)]:
        if low_end > at:
            ranges.append((at, low_end - at))
        at = high_begin
    return ranges
