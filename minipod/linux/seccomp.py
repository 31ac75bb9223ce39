"""Seccomp filters: a classic-BPF assembler, the compiler of the default profile, and seccomp(2).

The program checks the architecture, then finds the call number by binary search over ranges (some seven comparisons instead of
three hundred), then looks at arguments where the profile wants it. `compile_profile` runs before the fork and is cached; `load`
is one system call. See seccomp(2),
Documentation/userspace-api/seccomp_filter.rst; struct seccomp_data: int nr; u32 arch; u64 ip; u64 args[6].
"""

from __future__ import annotations

import ctypes
import errno
import struct
from functools import cache

from minipod.linux.libc import MACHINE, syscall
from minipod.linux.seccomp_profile import (
    ALWAYS,
    NAMESPACE_FLAGS,
    PERSONALITIES,
    REFUSED_FAMILIES,
    WITH,
)
from minipod.linux.syscalls import table

SECCOMP_SET_MODE_FILTER = 1
RET_ALLOW = 0x7FFF0000
RET_KILL_PROCESS = 0x80000000
RET_ERRNO = 0x00050000
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000

_LD_ABS, _JEQ, _JGE, _JSET, _JA, _RET = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24

Instruction = tuple[int, int, int, int]  # code, jt, jf, k

DENY = RET_ERRNO | errno.EPERM
Body = tuple[Instruction, ...]


def _ret(value: int) -> Instruction:
    return (_RET, 0, 0, value)


ALLOWED: Body = (_ret(RET_ALLOW),)
DENIED: Body = (_ret(DENY),)
UNKNOWN: Body = (_ret(RET_ERRNO | errno.ENOSYS),)
CLONE_PLAIN: Body = (
    (_LD_ABS, 0, 0, _ARG0),
    (_JSET, 0, 1, NAMESPACE_FLAGS),
    _ret(DENY),
    _ret(RET_ALLOW),
)


def _unless(argument: int, refused: tuple[int, ...]) -> Body:
    """Refuse some values of an argument's low word."""
    body: list[Instruction] = [(_LD_ABS, 0, 0, argument)]
    for value in refused:
        body += [(_JEQ, 0, 1, value), _ret(DENY)]
    return (*body, _ret(RET_ALLOW))


def _only(argument: int, allowed: tuple[int, ...]) -> Body:
    """Allow some values of an argument's low word."""
    body: list[Instruction] = [(_LD_ABS, 0, 0, argument)]
    for value in allowed:
        body += [(_JEQ, 0, 1, value), _ret(RET_ALLOW)]
    return (*body, _ret(DENY))


def decisions(capabilities: frozenset[str]) -> dict[str, Body]:
    """Return what happens to each named call, for a container with *capabilities*; others get EPERM."""
    wanted: dict[str, Body] = dict.fromkeys(ALWAYS, ALLOWED)
    wanted["socket"] = _unless(_ARG0, REFUSED_FAMILIES)
    wanted["personality"] = _only(_ARG0, PERSONALITIES)
    wanted["clone"] = CLONE_PLAIN
    wanted["clone3"] = UNKNOWN
    for capability, names in WITH.items():
        if capability in capabilities:
            wanted |= dict.fromkeys(names, ALLOWED)
    return wanted


@cache
def compile_profile(capabilities: frozenset[str], machine: str = MACHINE) -> bytes:
    """Compile the default profile. *capabilities* without CAP_.

    A call newer than our table gets ENOSYS: libraries then fall back to what they did before there was such a call.
    """
    numbers = table(machine)
    by_number = {
        numbers[name]: body for name, body in decisions(capabilities).items() if name in numbers
    }
    newest = max(numbers.values())
    return assemble(by_number, newest, rest=DENIED, beyond=UNKNOWN, machine=machine)


def assemble(
    by_number: dict[int, Body], newest: int, *, rest: Body, beyond: Body, machine: str
) -> bytes:
    """Assemble a program: *rest* for numbers up to *newest* that are not listed, *beyond* for those after it."""
    program: list[Instruction] = [
        (_LD_ABS, 0, 0, _ARCH),
        (_JEQ, 1, 0, AUDIT_ARCH[machine]),
        _ret(RET_KILL_PROCESS),
        (_LD_ABS, 0, 0, _NR),
    ]
    if machine == "x86_64":
        program += [(_JGE, 0, 1, X32_BIT), _ret(DENY)]
    program += _Search(_ranges(by_number, newest, rest, beyond)).program()
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _ranges(
    by_number: dict[int, Body], newest: int, rest: Body, beyond: Body
) -> list[tuple[int, Body]]:
    """Return (first number, what happens from there on), in order, neighbours merged."""
    found: list[tuple[int, Body]] = []
    for number in range(newest + 2):
        body = by_number.get(number, rest if number <= newest else beyond)
        if not found or found[-1][1] != body:
            found.append((number, body))
    return found


class _Search:
    """A binary search: the number is in the accumulator, every way ends in a return.

    It is written from its end, for jumps only lead forward; each body once. To load a filter costs what the kernel compiles of it, for
    each exec and each container: half the instructions take three quarters of the time.
    """

    def __init__(self, ranges: list[tuple[int, Body]]) -> None:
        self._ranges = ranges
        self._costs: dict[tuple[int, int], int] = {}
        self._written: list[Instruction] = []  # the last one first
        self._bodies: dict[Body, int] = {}  # where each begins: that many are written up to there
        # The short ones last, where all others are nearest to them.
        for body in sorted({body for _, body in ranges}, key=len):
            self._written += reversed(body)
            self._bodies[body] = len(self._written)

    def program(self) -> list[Instruction]:
        start = self._find(0, len(self._ranges))
        if start != len(self._written):
            self._jump(start)
        return self._written[::-1]

    def _find(self, low: int, high: int) -> int:
        """Write what finds one of the ranges from *low* up to *high*, where that is more than one; return where it begins."""
        ranges = self._ranges
        if high - low == 1:
            return self._bodies[ranges[low][1]]
        if high - low == 3 and self._is_exception(low + 1):
            number, body = ranges[low + 1]
            return self._branch(_JEQ, number, self._bodies[body], self._bodies[ranges[low][1]])
        middle = self._middle(low, high)
        above, below = self._find(middle, high), self._find(low, middle)
        return self._branch(_JGE, ranges[middle][0], above, below)

    def _middle(self, low: int, high: int) -> int:
        """Return where to divide: about the middle, where the fewest comparisons are needed then."""
        middle = (low + high) // 2
        near = range(max(low + 1, middle - 2), min(high, middle + 3))
        return min(near, key=lambda m: (self._cost(low, m) + self._cost(m, high), abs(m - middle)))

    def _cost(self, low: int, high: int) -> int:
        """Return how many comparisons `_find` writes."""
        if (cost := self._costs.get((low, high))) is None:
            if high - low == 1:
                cost = 0
            elif high - low == 3 and self._is_exception(low + 1):
                cost = 1
            else:
                middle = self._middle(low, high)
                cost = 1 + self._cost(low, middle) + self._cost(middle, high)
            self._costs[low, high] = cost
        return cost

    def _is_exception(self, index: int) -> bool:
        """Whether it is one number, around which it is the same."""
        before, this, behind = self._ranges[index - 1 : index + 2]
        return behind[0] == this[0] + 1 and before[1] == behind[1]

    def _branch(self, code: int, value: int, yes: int, no: int) -> int:
        """Compare the number with *value*; a conditional jump reaches 255 instructions, a longer way takes an unconditional one."""
        here = len(self._written)
        yes, no = (self._jump(to) if here + 2 - to > 255 else to for to in (yes, no))
        here = len(self._written)
        self._written.append((code, here - yes, here - no, value))
        return here + 1

    def _jump(self, to: int) -> int:
        self._written.append((_JA, 0, 0, len(self._written) - to))
        return len(self._written)


class _Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def load(program: bytes) -> None:
    """seccomp(SECCOMP_SET_MODE_FILTER): needs no_new_privs or CAP_SYS_ADMIN; inherited for ever."""
    argument = _Program(len(program) // 8, program)
    syscall("seccomp", SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(argument))
