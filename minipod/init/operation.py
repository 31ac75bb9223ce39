"""What an operation is, and the state that operations of one set-up share.

An operation is a frozen value: `describe()` says in the kernel's words what it does, `apply()` does it, `cause` is the
manifest path that asked for it. An OSError out of `apply` names its subject in `filename`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from minipod.cgroups.hierarchy import Hierarchy
from minipod.init.descriptors import Descriptors
from minipod.init.sync import SyncPipe
from minipod.linux.flags import CloneFlag
from minipod.linux.program import Buffer, Call, Text


class Operation(Protocol):
    """One step of a set-up."""

    @property
    def cause(self) -> str:
        """Return the manifest path that asked for it, or ""."""

    def describe(self) -> str:
        """Return one line: what the kernel is asked for."""

    def apply(self, context: Context) -> None:
        """Do it. Raises OSError."""


class NotDirect(Exception):
    """What an operation does is more than a list of system calls (`minipod.init.launch`)."""


@runtime_checkable
class Direct(Protocol):
    """An operation that is nothing but system calls."""

    def calls(self, context: Context) -> Sequence[Call]:
        """Return them; *context* goes on to what will be then. Raises NotDirect for what they can't do."""


class Repeats:
    """Of an operation whose calls are the same in many containers but for some texts, so that they are written down once."""

    __slots__ = ()

    def shape(self) -> Hashable:
        """Return what its calls depend on, beside its texts and the context."""
        return self

    def texts(self, context: Context) -> Sequence[Text]:
        """Return the texts of its calls, in the order in which those name them."""
        return []


@dataclass(slots=True, kw_only=True)
class Context:
    """What a set-up has in its hands while it runs; made anew for each, after the fork."""

    sync: SyncPipe
    hierarchy: Hierarchy
    vault_fd: int = -1  # the mount namespace that holds the pins
    filter: bytes = b""  # the compiled seccomp program, b"" for none
    nofile: tuple[int, int] | None = None  # RLIMIT_NOFILE to go on with; None: as it is
    target_pidfd: int = -1  # for exec, and for a joined pid namespace
    fds: dict[str, int] = field(default_factory=dict)  # opened before the mount namespace changes
    stdio: tuple[int, int, int] = (-1, -1, -1)
    executable: str = ""  # where argv[0] was found, set by FindExecutable
    executable_errno: int = 0
    candidates: tuple[
        str, ...
    ] = ()  # where argv[0] may be, as FindExecutable says, for Execve.calls
    outcome: Buffer | None = None  # takes what execve(2), or the look before it, gives
    numbers: Descriptors = field(default_factory=Descriptors)  # for `calls` of a container

    def warn(self, text: str) -> None:
        """Tell the supervisor that something is degraded."""
        self.sync.warning(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The operations of one set-up.

    *inner* are the main process' own, which becomes the container's or the exec's; *execute* runs after "go", as close to
    execve as can be. *outer*, where there are any, run before in a process that then forks the main one. A plan of *outer*
    alone leaves no process.
    """

    outer: tuple[Operation, ...] = ()
    inner: tuple[Operation, ...] = ()
    execute: tuple[Operation, ...] = ()
    cgroup: str = ""  # in the unified tree, where the main process is born
    new: CloneFlag = CloneFlag(0)  # noqa: RUF009 immutable; namespaces that are born with it

    def describe(self) -> list[str]:
        """Return the whole plan as lines, for `minipod steps` and golden tests."""
        lines = []
        for title, operations in (
            ("outer", self.outer), (self._birth(), self.inner), ("execute", self.execute),
        ):  # fmt: skip
            if operations:
                lines.append(f"[{title}]")
            lines += [o.describe() + (f"    # {o.cause}" if o.cause else "") for o in operations]
        return lines

    def _birth(self) -> str:
        words = ["main"]
        words += [f"new {f.name.removeprefix('CLONE_NEW').lower()}" for f in self.new if f.name]
        words += [f"cgroup {self.cgroup}"] if self.cgroup else []
        return ", ".join(words)
