"""What a program of system calls is made of: calls, where each outcome leads to, what they share. `minipod.linux.machine` runs it.

A piece is a list of calls. One call follows the other, or some are left out; data goes from one to another by a `Result` or in a
`Buffer`. There is one comparison, `equal`, which is a system call, too. Knows nothing of what the calls are for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final


class Buffer:
    """Room for what a call writes, the same in every call that names it: of a program, or of a block."""

    def __init__(self, size: int) -> None:
        self.size = size  # bytes


class Text(bytes):
    """Bytes that are others for another child: a block that is kept has room for those in their place."""


class Number:
    """An argument of calls, no part of a tuple, that is another one for another child: a block that is kept has its places."""

    def __init__(self, value: int) -> None:
        self.value = value


class Words:
    """Texts as execve(2) takes them: the address of an array of their addresses, which ends with 0."""

    def __init__(self, words: Sequence[bytes]) -> None:
        self.text = b"".join(word + b"\0" for word in words)
        ends = itertools.accumulate(len(word) + 1 for word in words)
        self.starts = (0, *ends)[: len(words)]  # where in it each begins


class Result:
    """What one call gives and a later one of its piece takes."""


# A word, a pointer to a copy of bytes, a pointer to words, to texts, to room, what an earlier call gave.
Argument = int | Number | bytes | Buffer | Result | Words | tuple["Argument", ...]
FAIL: Final = -1  # where a call leads to: give up


@dataclass(frozen=True, slots=True)
class Call:
    """One system call, and where each outcome leads to: FAIL, or on, without the next *n* calls (0: with all of them)."""

    name: str
    arguments: tuple[Argument, ...]
    on_error: int = FAIL
    on_zero: int | None = None  # None: as for any other success
    then: int = 0  # after a success
    # in a buffer the result takes the first 8 bytes, -errno for an error
    gives: Result | Buffer | None = None


FUTEX_CMP_REQUEUE_PRIVATE: Final = 4 | 128


def equal(buffer: Buffer, value: int, *, yes: int, no: int) -> Call:
    """Return a comparison of the first 4 bytes of *buffer*: futex(2) compares before it wakes nobody, and fails where they differ.

    It has no other way to fail for a word that is there, where it works at all; `machine_fork` has tried that.
    """
    arguments = (buffer, FUTEX_CMP_REQUEUE_PRIVATE, 0, 0, buffer, value & 0xFFFFFFFF)
    return Call("futex", arguments, then=yes, on_error=no)


def either(test: Call, good: Sequence[Call], bad: Sequence[Call]) -> list[Call]:
    """Return *test*, then *good* when it succeeds and *bad* when not."""
    left, over = len(good), len(bad)
    first = replace(_leading(replace(test, on_error=FAIL), left, over), on_error=left)
    return [first, *(_leading(c, left - i, over) for i, c in enumerate(good, 1)), *bad]


def unless(test: Call, bad: Sequence[Call]) -> list[Call]:
    """Return *test*, and *bad* for when it fails."""
    return [replace(test, on_error=0, then=len(bad)), *bad]


def _leading(call: Call, left: int, further: int) -> Call:
    """Return *call*, *left* calls before an end, so that what led to that end leads to *further* calls behind it."""
    moved = {
        name: way + further
        for name in ("on_error", "on_zero", "then")
        if (way := getattr(call, name)) is not None and way == left
    }
    return replace(call, **moved) if moved else call
