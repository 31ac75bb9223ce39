"""Programs of system calls, run by some 90 bytes of machine code: what a child does that has no memory but its program.

A fork of an interpreter copies its page tables, and then every page that it touches: milliseconds, for a child that makes sixty
system calls. Here the calls are written down first. Machine code makes one after the other, forks on its way, and goes on to the
child's calls in the child. It needs nothing else, so nothing else is copied: all other memory is marked MADV_DONTFORK for that moment.

    ours    DONTFORK, enter the namespaces, clone3 ---> theirs   close_range, setsid, ... execve
            leave them, DOFORK, return              |            on_error: tell, exit
            (no Python runs before this)            `- result 0

A step is one call with its arguments, an address that takes the result, and where to go on when it fails or is 0. Words are 64 bits, in a
region of its own that the child gets a private copy of. Knows nothing of what the calls are for.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from minipod.linux import process
from minipod.linux.flags import CloneFlag
from minipod.linux.libc import MACHINE, check, libc
from minipod.linux.syscalls import table

SIZE: Final = 512 << 10  # bytes of the region; a page that was never written costs nothing
_PAGE: Final = mmap.PAGESIZE
_STEP: Final = 80  # bytes: number, six arguments, where the result goes, where to go on failure, where to go on 0
TUNABLE: Final = "glibc.pthread.rseq=0"
_STORE: Final = 56  # where in a step the address for its result is
_END: Final = 2**64 - 1
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
    "4883c350"  # step: add rbx, 80
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
    0x91014129,  # step: add x9, x9, #80
    0x17FFFFEE,  # b next
    0xD65F03C0,  # done: ret
)
_CODE: Final = {"x86_64": _X86_64, "aarch64": _AARCH64}


class Buffer:
    """Room for what a call writes, the same in every call that names it."""

    def __init__(self, size: int) -> None:
        self.size = size  # bytes


class Result:
    """What one call gives and a later one takes."""


# A word, a pointer to a copy of bytes, a pointer to words, a pointer to room, what an earlier call gave.
Argument = int | bytes | Buffer | Result | tuple["Argument", ...]
FAIL: Final = -1  # a call's `on_error`: give up


@dataclass(frozen=True, slots=True)
class Call:
    """One system call."""

    name: str
    arguments: tuple[Argument, ...]
    on_error: int = FAIL  # 0: go on all the same; n: go on, without the next n calls
    on_zero: int = 0  # FAIL: to get 0 (read(2) at the end of a file) is a failure, too
    gives: Result | None = None


class Machine:
    """The region with the machine code, and the programs in it: one at a time, in a process with one thread."""

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
        self._free = 0  # where the next thing goes, in the region
        self._rooms: dict[int, int] = {}
        self._givers: dict[int, int] = {}
        others = _others(self._base, self._base + SIZE)
        self._hide = [Call("madvise", (*where, _DONTFORK), on_error=0) for where in others]
        self._show = [Call("madvise", (*where, _DOFORK), on_error=0) for where in others]
        self._try()

    def launch(
        self,
        theirs: Sequence[Call],
        *,
        flags: CloneFlag = CloneFlag(0),  # noqa: B008 an immutable flag
        cgroup: int = -1,
        enter: Sequence[Call] = (),
        leave: Sequence[Call] = (),
        failed: Call,
    ) -> int:
        """Run *enter*, fork a child for *theirs*, run *leave*; return the child's pid.

        *theirs* ends with execve; where it fails, *failed* is the child's last call. *leave* must not fail: this process ends then, for
        it is not where it should be. *flags* and *cgroup* as for `process.clone3`. Raises OSError, OverflowError for a
        program that is too long.
        """
        self._free, self._rooms, self._givers = _PAGE, {}, {}
        outcome = self._place(bytes(8))
        arguments = process.clone_arguments(flags, cgroup)
        fork = Call("clone3", (arguments, len(arguments)))
        child = self._steps(len(theirs) + 2)
        self._write(child, [*theirs, failed, _exit(1)], fail=child + len(theirs) * _STEP)
        die = self._steps(1)
        self._write(die, [_exit(70)], fail=0)
        before, after = [*enter, fork], [*leave, *self._show]
        start = self._steps(len(self._hide) + len(before) + len(after) + 1)
        first = self._write(start, self._hide, fail=0)
        back = first + len(before) * _STEP
        self._write(first, before, fail=back, store=outcome, child=child)
        self._word(self._write(back, after, fail=die), _END)
        self._run(self._base + start)
        (pid,) = struct.unpack_from("<q", self._region, outcome)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return int(pid)

    def _try(self) -> None:
        """Hide all other memory and show it again: a mapping that can't be shown again would be missing in every later child."""
        self._free = _PAGE
        start = self._steps(len(self._hide) + len(self._show) + 1)
        results = self._place(bytes(8 * len(self._show)))
        at = self._write(start, self._hide, fail=0)
        for number, call in enumerate(self._show):
            at = self._write(at, [call], fail=0, store=results + 8 * number)
        self._word(at, _END)
        self._run(self._base + start)
        for result in struct.unpack_from(f"<{len(self._show)}q", self._region, results):
            if result not in (0, -errno.ENOMEM):  # ENOMEM: there are gaps, too
                raise OSError(-result, f"madvise: {os.strerror(-result)}")

    def _write(
        self, at: int, calls: Sequence[Call], *, fail: int, store: int = 0, child: int = 0
    ) -> int:
        """Write the steps of *calls*, and return where the next one goes. All places are offsets in the region."""
        for call in calls:
            on_error = fail if call.on_error == FAIL else at + (call.on_error + 1) * _STEP
            on_zero = fail if call.on_zero == FAIL else child if call.name == "clone3" else 0
            words = [self._numbers[call.name], *(self._argument(a) for a in call.arguments)]
            for number, argument in enumerate(call.arguments, 1):
                if isinstance(argument, Result):  # its giver puts it right into this step
                    self._word(self._givers[id(argument)] + _STORE, self._base + at + 8 * number)
            if call.gives is not None:
                self._givers[id(call.gives)] = at
            words += [0] * (7 - len(words))
            words += [self._base + place if place else 0 for place in (store, on_error, on_zero)]
            struct.pack_into("<10Q", self._region, at, *words)
            at += _STEP
        return at

    def _argument(self, argument: Argument) -> int:
        if isinstance(argument, int):
            return argument & _END
        if isinstance(argument, Result):
            return 0
        if isinstance(argument, bytes):
            return self._base + self._place(argument + b"\0")
        if isinstance(argument, Buffer):
            if id(argument) not in self._rooms:
                self._rooms[id(argument)] = self._place(bytes(argument.size))
            return self._base + self._rooms[id(argument)]
        words = [self._argument(a) for a in argument]
        return self._base + self._place(struct.pack(f"<{len(words)}Q", *words))

    def _steps(self, number: int) -> int:
        return self._place(bytes(number * _STEP))

    def _place(self, content: bytes) -> int:
        """Copy *content* into the region; return its offset."""
        at, self._free = self._free, self._free + (len(content) + 7) // 8 * 8
        if self._free > SIZE:
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
