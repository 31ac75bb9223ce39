"""Operations that make and join namespaces, and name and tune the new ones.

Those of a pod are pinned in the vault (`minipod.init.vault`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from minipod.init.operation import Context, NotDirect, Repeats
from minipod.linux import namespaces, prctl
from minipod.linux.flags import CloneFlag
from minipod.linux.program import Call

SHARED = {
    "net": CloneFlag.CLONE_NEWNET,
    "ipc": CloneFlag.CLONE_NEWIPC,
    "uts": CloneFlag.CLONE_NEWUTS,
}


def names(flags: CloneFlag) -> str:
    """Return flags as the kernel's short names, like "mnt pid cgroup"."""
    short = {"CLONE_NEWNS": "mnt"}
    return " ".join(
        short.get(f.name or "", (f.name or "").removeprefix("CLONE_NEW").lower())
        for f in CloneFlag
        if f in flags
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unshare(Repeats):
    """Make namespaces of the container's own; the cgroup namespace only now, or its root is wrong."""

    flags: CloneFlag
    cause: str = ""

    def describe(self) -> str:
        return f"unshare {names(self.flags)}"

    def apply(self, context: Context) -> None:
        namespaces.unshare(self.flags)

    def calls(self, context: Context) -> list[Call]:
        """The mount namespace comes with the root (`filesystem.MountRoot`): until then the host's is needed, and then no more."""
        return [Call("unshare", (int(self.flags & ~CloneFlag.CLONE_NEWNS),))]


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinNamespaces(Repeats):
    """Enter the namespaces that the sandbox owns (and the pid namespace of a target container, where a fork follows)."""

    kinds: tuple[str, ...]
    target_pid: bool = False
    cause: str = ""

    def describe(self) -> str:
        return f"setns {' '.join(self.kinds)}" + (" pid (of the target)" if self.target_pid else "")

    def apply(self, context: Context) -> None:
        for kind in self.kinds:
            namespaces.setns(context.fds.pop(f"ns:{kind}"), SHARED[kind])
        if self.target_pid:
            namespaces.setns(context.target_pidfd, CloneFlag.CLONE_NEWPID)

    def calls(self, context: Context) -> list[Call]:
        if self.target_pid:
            raise NotDirect("another's pid namespace")
        return [
            Call("setns", (context.fds.pop(f"ns:{kind}"), int(SHARED[kind]))) for kind in self.kinds
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinContainer:
    """Enter all namespaces of a running container at once, by the pidfd of its main process; the next child is born in its pid namespace.

    *user*: it has a user namespace of its own, too. Without that one an exec would be root of the host in there.
    """

    user: bool = False
    cause: str = ""
    ALL = (  # the cgroup namespace comes last, see JoinCgroupNamespace
        CloneFlag.CLONE_NEWNS | CloneFlag.CLONE_NEWPID | CloneFlag.CLONE_NEWNET
        | CloneFlag.CLONE_NEWIPC | CloneFlag.CLONE_NEWUTS
    )  # fmt: skip

    def describe(self) -> str:
        return f"{'not dumpable; ' if self.user else ''}setns pidfd: {names(self.flags())}"

    def apply(self, context: Context) -> None:
        if self.user:
            # Its root may trace whoever is in its user namespace, unless that is not dumpable (ptrace(2)); see `init.userns`.
            prctl.set_dumpable(False)
        namespaces.setns(context.target_pidfd, self.flags())

    def flags(self) -> CloneFlag:
        """Return the namespaces it enters."""
        return self.ALL | CloneFlag.CLONE_NEWUSER if self.user else self.ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinCgroupNamespace(Repeats):
    """Enter the container's cgroup namespace, from inside: a cgroup mounted nsdelegate lets nobody be born below it from outside."""

    cause: str = ""

    def describe(self) -> str:
        return "setns pidfd: cgroup"

    def apply(self, context: Context) -> None:
        namespaces.setns(context.target_pidfd, CloneFlag.CLONE_NEWCGROUP)

    def calls(self, context: Context) -> tuple[Call, ...]:
        return (Call("setns", (context.target_pidfd, int(CloneFlag.CLONE_NEWCGROUP))),)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHostname:
    """Name the pod, in its new uts namespace."""

    name: str
    cause: str = ""

    def describe(self) -> str:
        return f"sethostname {self.name}"

    def apply(self, context: Context) -> None:
        namespaces.sethostname(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSysctl:
    """Set a sysctl of the pod's net or ipc namespace; /proc/sys shows those of the calling process."""

    name: str
    value: str
    cause: str = ""

    def describe(self) -> str:
        return f"sysctl {self.name}={self.value}"

    def apply(self, context: Context) -> None:
        path = "/proc/sys/" + self.name.replace(".", "/")
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, self.value.encode())
        except OSError as e:
            raise OSError(e.errno, e.strerror, path) from e
        finally:
            os.close(fd)
