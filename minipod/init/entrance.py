"""How execs enter one container by the short way (`minipod.init.launch`): what all of them do, and what is kept open for them.

Found out at the first exec into a container, and let go at its end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from minipod.init.identity import Execve, FindExecutable
from minipod.init.operation import Context
from minipod.linux.program import Call, Number, Text

SYNC: Final = 3  # where a child has its socket
TARGET: Final = 4  # and an exec's a pidfd of the container's main process
MANY: Final = 512  # descriptors: to copy and to close so many takes each child 20 us

# Descriptors for an exec: socket, pidfd, stdin, stdout, stderr.
Given = tuple[int, int, int, int, int]
_PLACES: Final = ((SYNC, os.O_CLOEXEC), (TARGET, os.O_CLOEXEC), (0, 0), (1, 0), (2, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """What all execs into one container do, whatever their command; `close` it."""

    context: Context
    key: int  # of the block
    cgroup: int  # a descriptor of it in the unified tree, -1 where there is none
    tasks: Text  # the path of the cgroup's tasks in each v1 tree
    kept: tuple[int, ...]  # descriptors of these, or none
    flags: int  # the namespaces to enter
    env: tuple[str, ...]
    path: str  # where commands are looked for
    calls: Callable[[Entrance, Given], list[Call]]

    def executed(self, argv: tuple[str, ...]) -> list[Call]:
        """Return the last calls of an exec of *argv*. Raises NotDirect."""
        command = FindExecutable(name=argv[0], path=self.path)
        self.context.candidates = tuple(command.candidates())
        return Execve(argv=argv, env=self.env).calls(self.context)

    def close(self) -> None:
        """The container has ended."""
        for fd in (self.cgroup, *self.kept):
            if fd >= 0:
                os.close(fd)


def moved(given: Given) -> list[Call]:
    """Return how a child gets its descriptors to their places: the socket first, a failure is told there."""
    return [Call("dup3", (Number(fd), *place)) for fd, place in zip(given, _PLACES, strict=True)]


def tasks_of(cgroup: str) -> str:
    """Return the path, below the root of a v1 tree, of what enters *cgroup* when it is written to."""
    return f"{cgroup}/tasks"


def open_tasks(trees: Sequence[int], cgroup: str) -> tuple[int, ...]:
    """Open that in all *trees*: to find it takes longer than to write. None where MANY are open. Raises OSError."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for tree in trees:
            found.append(os.open(tasks_of(cgroup), os.O_WRONLY | os.O_CLOEXEC, dir_fd=tree))
            stack.callback(os.close, found[-1])
            if found[-1] >= MANY:
                return ()
        stack.pop_all()
    return tuple(found)
