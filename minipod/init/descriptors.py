"""Which descriptors a child will have: the kernel gives the lowest number that is free (open(2)), so they are known before it runs.

That holds while every call that opens one either works or ends the program, or the ways of a branch leave the same ones open.
"""

from __future__ import annotations

from collections.abc import Iterable

from minipod.linux.program import Call


class Descriptors:
    """The numbers that are taken at one place of a program."""

    def __init__(self, taken: Iterable[int] = ()) -> None:
        self._taken = set(taken)

    def next(self) -> int:
        """Return what the next call that opens one will give, for what is closed again soon."""
        return next(n for n in range(len(self._taken) + 1) if n not in self._taken)

    def open(self) -> int:
        """Return what the next call that opens one will give; it is taken from then on."""
        number = self.next()
        self._taken.add(number)
        return number

    def close(self, number: int) -> Call:
        """Return the call that closes it; it is free from then on."""
        self._taken.remove(number)
        return Call("close", (number,))

    def taken(self) -> tuple[int, ...]:
        """Return them, in order."""
        return tuple(sorted(self._taken))
