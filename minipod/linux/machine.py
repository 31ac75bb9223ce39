"""Runs programs of system calls by 90 bytes of machine code, with no interpreter between two of them.

Machine code makes one call after the other, and needs nothing but its program, which is written down first. So it may run where there is
no interpreter: in a child without our memory (`minipod.linux.machine_fork`), in a thread that does not wait for the interpreter's
lock (`minipod.linux.machine_thread`).

A step is one call with its arguments, an address that takes the result, and where to go on when it fails, is 0, or neither. Words are
64 bits, in a region of its own. What many programs have alike is written down once (a block).
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from minipod.linux.libc import MACHINE, check, libc
from minipod.linux.program import FAIL, Argument, Buffer, Call, Number, Result, Text, Words
from minipod.linux.syscalls import table

SIZE: Final = 2 << 20  # bytes of the region; a page that was never written costs nothing
OWN: Final = 320 << 10  # bytes of it for what one program has of its own
PAGE: Final = mmap.PAGESIZE
STEP: Final = 88  # bytes: number, six arguments, where the result goes; where to go on failure, on 0, and else
_ROOM: Final = 256  # bytes, for a text; or a multiple
_PACK: Final = struct.Struct("<11Q").pack_into
TAIL: Final = 2  # steps of a failure
_STORE: Final = 56  # where in a step the address for its result is
_WORD: Final = 2**64 - 1
_END: Final = _WORD

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
    """Calls that stay in the region for many programs (`Machine.keep`)."""

    start: int  # the offset of its first step
    exits: tuple[int, ...]  # the offsets of the words that say where to go behind it
    texts: tuple[tuple[int, int], ...] = ()  # the offset and the bytes of room of each text
    numbers: tuple[tuple[int, ...], ...] = ()  # the offsets of the words of each number


Piece = Block | Sequence[Call]  # no call leads out of its piece


class Machine:
    """The region with the machine code, and the programs in it: one at a time.

    code | how a program ends | blocks that are kept | what the program of this time has of its own
    """

    def __init__(self, size: int = SIZE, own: int = OWN) -> None:
        """Take *size* bytes, *own* of them for what is not kept. Raises OSError where this can't work: the caller has to do without."""
        self._numbers = table(MACHINE)
        self._region = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._region))
        self._region[: len(_CODE[MACHINE])] = _CODE[MACHINE]
        # Never writable and executable at once.
        executable = mmap.PROT_READ | mmap.PROT_EXEC
        check(libc.mprotect(ctypes.c_void_p(self._base), ctypes.c_size_t(PAGE), executable))
        self._size = size
        self._own = size - own  # where what is not kept begins
        self._free, self._limit = PAGE, size  # where the next thing goes; where no room is left
        self._rooms: dict[int, int] = {}
        self._givers: dict[int, int] = {}
        self._texts: dict[int, tuple[int, int]] | None = None  # of the block that is being kept
        self._numbered: dict[int, list[int]] = {}  # and where each of its numbers is
        self._fail = self._steps(TAIL)  # where a call leads to that fails
        self._end = self._steps(1)
        self._word(self._end, _END)
        self._blocks: dict[Hashable, Block] = {}  # by all that those do alike who have it
        self._begin_to_keep()

    def _begin_to_keep(self) -> None:
        """Keep blocks behind what is there."""
        self._kept = self._first_kept = self._free

    def once(
        self,
        key: Hashable,
        texts: Sequence[bytes],
        calls: Callable[[], Sequence[Call]],
        *,
        numbers: Sequence[int] = (),
        most: int = SIZE,
    ) -> Piece:
        """Return the block that was made for *key*, with *texts* and *numbers*; or what *calls* gives, which will be that block the next
        time. What would take more than *most* bytes is not kept.
        """
        if (block := self._blocks.get(key)) is not None:
            if self.fill(block, texts, numbers):
                return block
            del self._blocks[key]  # one of them is longer than its room
        made = calls()
        if (kept := self.keep(made, most)) is not None:
            self._blocks[key] = kept
        elif self._kept + most > self._own:
            self.forget()
        return made

    def keep(self, calls: Sequence[Call], most: int = SIZE) -> Block | None:
        """Return *calls* as a block, which any later program may have; None: there is no more room for it, or it needs more than *most*."""
        free, limit, rooms = self._free, self._limit, self._rooms
        self._free, self._limit, self._rooms = self._kept, min(self._own, self._kept + most), {}
        self._texts, self._numbered = {}, {}
        try:
            block = self._block(calls, self._fail)
        except OverflowError:
            return None
        else:
            self._kept = self._free
            numbers = tuple(map(tuple, self._numbered.values()))
            return replace(block, texts=tuple(self._texts.values()), numbers=numbers)
        finally:
            self._free, self._limit, self._rooms, self._texts = free, limit, rooms, None

    def fill(self, block: Block, texts: Sequence[bytes], numbers: Sequence[int] = ()) -> bool:
        """Give a block its texts and numbers, in the order in which its calls name them first; False: a text is longer than its room."""
        for number, places in zip(numbers, block.numbers, strict=True):
            for at in places:
                self._word(at, number)
        for text, (at, room) in zip(texts, block.texts, strict=True):
            if len(text) >= room:
                return False
            self._region[at : at + len(text) + 1] = text + b"\0"
        return True

    def forget(self) -> None:
        """Give up all blocks that are kept: none may be used again."""
        self._kept = self._first_kept
        self._blocks.clear()

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
        base, end = self._base, at + len(calls) * STEP
        exits: list[int] = []
        for call in calls:
            words = [self._numbers[call.name], 0, 0, 0, 0, 0, 0, base + store if store else 0]
            for number, argument in enumerate(call.arguments, 1):
                if type(argument) is int:
                    words[number] = argument & _WORD
                elif isinstance(argument, Result):  # its giver puts it right into this step
                    self._word(self._givers[id(argument)] + _STORE, base + at + 8 * number)
                else:
                    words[number] = self._argument(argument, at + 8 * number)
            if isinstance(call.gives, Result):
                self._givers[id(call.gives)] = at
            elif call.gives is not None:
                words[7] = self._argument(call.gives)
            on_zero = call.then if call.on_zero is None else call.on_zero
            for place, way in ((64, call.on_error), (72, on_zero), (80, call.then)):
                to = fail if way == FAIL else at + (way + 1) * STEP
                if place == 72 and call.name == "clone3":
                    to = child
                elif to == end:
                    exits.append(at + place)
                words.append(base + to)
            _PACK(self._region, at, *words)
            at += STEP
        return tuple(exits)

    def _argument(self, argument: Argument, at: int = 0) -> int:
        """Return what the call is given for it: an address, for most; a `Result` is not known yet. *at*: where it goes, in a step."""
        if isinstance(argument, int):
            return argument & _WORD
        if isinstance(argument, Number):
            if self._texts is not None:
                self._numbered.setdefault(id(argument), []).append(at)
            return argument.value
        if isinstance(argument, Text) and self._texts is not None:
            return self._base + self._roomy(argument)
        if isinstance(argument, bytes):
            return self._base + self._place(argument + b"\0")
        if isinstance(argument, Buffer):
            if id(argument) not in self._rooms:
                self._rooms[id(argument)] = self._place(bytes(argument.size))
            return self._base + self._rooms[id(argument)]
        assert isinstance(argument, tuple | Words)
        if id(argument) not in self._rooms:
            if isinstance(argument, Words):
                text = self._base + self._place(argument.text)
                words = [*(text + start for start in argument.starts), 0]
            else:
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
        return self._place(bytes(number * STEP))

    def _place(self, content: bytes) -> int:
        """Copy *content* into the region; return its offset."""
        at, self._free = self._free, self._free + (len(content) + 7) // 8 * 8
        if self._free > self._limit:
            raise OverflowError(f"a program of more than {self._size} bytes")
        self._region[at : at + len(content)] = content
        return at

    def _word(self, at: int, word: int) -> None:
        struct.pack_into("<Q", self._region, at, word)
