"""Operations for /dev and for what a process has at 0, 1 and 2."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Hashable
from dataclasses import dataclass

from minipod.init.operation import Context, NotDirect, Repeats
from minipod.init.targets import directory_calls, target_directory
from minipod.linux import files, mount
from minipod.linux.flags import AT_FDCWD, MountFlag
from minipod.linux.program import Call, Text

TIOCSCTTY = 0x540E
TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441

NODES = {  # name: (major, minor); all character devices, mode 0666 (runtime-spec, "Default Devices")
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0),
}  # fmt: skip
LINKS = {
    "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2", "core": "/proc/kcore", "ptmx": "pts/ptmx",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeDeviceNodes(Repeats):
    """Fill /dev with the nodes and links that every container has."""

    cause: str = ""

    def describe(self) -> str:
        return f"mknod /dev/{{{','.join(NODES)}}}; symlink /dev/{{{','.join(LINKS)}}}"

    def apply(self, context: Context) -> None:
        dev = target_directory(context, "/dev")
        old = os.umask(0)
        for name, (major, minor) in NODES.items():
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=dev)
        os.umask(old)
        for name, target in LINKS.items():
            os.symlink(target, name, dir_fd=dev)
        keep_null(context, dev)
        os.close(dev)

    def calls(self, context: Context) -> list[Call]:
        dev, mode = context.numbers.open(), stat.S_IFCHR | 0o666
        context.fds["null"] = context.numbers.open()
        return [
            *directory_calls(context, "/dev", dev),
            Call("umask", (0,)),
            *(
                Call("mknodat", (dev, name.encode(), mode, os.makedev(*numbers)))
                for name, numbers in NODES.items()
            ),
            Call("umask", (0o022,)),
            *(
                Call("symlinkat", (target.encode(), dev, name.encode()))
                for name, target in LINKS.items()
            ),
            Call("openat", (dev, b"null", _NULL)),
            context.numbers.close(dev),
        ]


_NULL = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def keep_null(context: Context, dev: int) -> None:
    """Open /dev/null while all of *dev* (an fd of /dev) is ours: a volume mounted there may hold a link by that name, and what is bound
    over masked paths would be the link's target, /proc/sys/kernel/core_pattern perhaps (CVE-2025-31133)."""
    context.fds["null"] = os.open("null", _NULL, dir_fd=dev)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyDevice:
    """Make a node like the host's *source* at *target*."""

    source: str
    target: str
    cause: str = ""

    def describe(self) -> str:
        return f"mknod {self.target} like {self.source}"

    def apply(self, context: Context) -> None:
        info = os.stat(context.fds.pop(f"dev:{self.source}"))
        parent, name = os.path.split(self.target)
        directory = target_directory(context, parent)
        os.mknod(name, info.st_mode, info.st_rdev, dir_fd=directory)
        os.chown(name, info.st_uid, info.st_gid, dir_fd=directory, follow_symlinks=False)
        os.close(directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDevice:
    """Look at a device of the host before the mount namespace changes."""

    source: str
    cause: str = ""

    def describe(self) -> str:
        return f"open {self.source}"

    def apply(self, context: Context) -> None:
        context.fds[f"dev:{self.source}"] = os.open(self.source, os.O_PATH | os.O_CLOEXEC)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFifos(Repeats):
    """Open the container's outputs read-write, so that it never gets SIGPIPE and a dead reader loses nothing.

    Its stdin is read-only: it ends when the last of our write ends is closed. The FIFOs belong to its user: opening /dev/stdout is
    opening the FIFO again, with the usual permission check.
    """

    directory: str
    uid: int
    gid: int
    stdin: bool
    cause: str = ""

    def describe(self) -> str:
        stdin = f"{self.directory}/stdin read-only, " if self.stdin else ""
        return f"open {stdin}{self.directory}/{{stdout,stderr}} read-write"

    def apply(self, context: Context) -> None:
        opened = [-1]
        for name in self._names():
            access = os.O_RDONLY if name == "stdin" else os.O_RDWR
            fd = os.open(f"{self.directory}/{name}", access | os.O_CLOEXEC)
            os.fchown(fd, self.uid, self.gid)
            opened.append(fd)
        stdin, stdout, stderr = opened[1:] if self.stdin else opened
        context.stdio = (stdin, stdout, stderr)

    def calls(self, context: Context) -> list[Call]:
        found, opened = [], [] if self.stdin else [-1]
        for name in self._names():
            access = os.O_RDONLY if name == "stdin" else os.O_RDWR
            fd = context.numbers.open()
            found.append(Call("openat", (AT_FDCWD, name.encode(), access | os.O_CLOEXEC)))
            found.append(Call("fchown", (fd, self.uid, self.gid)))
            opened.append(fd)
        context.stdio = (opened[0], opened[1], opened[2])
        return [Call("chdir", (*self.texts(context),)), *found]

    def shape(self) -> Hashable:
        return type(self), self.uid, self.gid, self.stdin

    def texts(self, context: Context) -> list[Text]:
        return [Text(os.fsencode(self.directory))]

    def _names(self) -> tuple[str, ...]:
        return ("stdin", "stdout", "stderr") if self.stdin else ("stdout", "stderr")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallStdio(Repeats):
    """Put the streams at 0, 1 and 2; without stdin, 0 is the container's own null device."""

    cause: str = ""

    def describe(self) -> str:
        return "dup2 stdio"

    def apply(self, context: Context) -> None:
        stdin, stdout, stderr = context.stdio
        if stdin < 0:
            stdin = context.fds["null"]
        # All sources are 3 or higher (close_range left 0-2 open as /dev/null of the supervisor).
        for target, source in enumerate((stdin, stdout, stderr)):
            os.dup2(source, target, inheritable=True)

    def calls(self, context: Context) -> list[Call]:
        if -1 in context.stdio[1:] or (context.stdio[0] < 0 and "null" not in context.fds):
            raise NotDirect("no streams")
        sources = [fd if fd >= 0 else context.fds["null"] for fd in context.stdio]
        return [Call("dup3", (source, target, 0)) for target, source in enumerate(sources)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenConsole:
    """Make a pty inside the container, hand its master to the supervisor, be its session's leader.

    *bind* shows it at /dev/console too (the main process' console, not an exec's).
    """

    uid: int
    bind: bool
    cause: str = ""

    def describe(self) -> str:
        return "open /dev/ptmx, send the master, TIOCSCTTY" + (
            ", bind /dev/console" if self.bind else ""
        )

    def apply(self, context: Context) -> None:
        master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        os.fchown(slave, self.uid, -1)
        if self.bind:
            target = _console_target()
            mount.mount(f"/proc/self/fd/{slave}", f"/proc/self/fd/{target}", "", MountFlag.MS_BIND)
            os.close(target)
        fcntl.ioctl(slave, TIOCSCTTY, 0)
        context.sync.send({"t": "console"}, [master])
        os.close(master)
        context.stdio = (slave, slave, slave)


def _console_target() -> int:
    """Open /dev/console (made when it is missing) to mount over it, and no link that a volume at /dev holds (CVE-2025-52565)."""
    dev = files.open_plain_directory(AT_FDCWD, "/dev")
    try:
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            target = os.open("console", flags, dir_fd=dev)
        except FileNotFoundError:
            create = os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC
            os.close(os.open("console", create, 0o600, dir_fd=dev))
            target = os.open("console", flags, dir_fd=dev)
    finally:
        os.close(dev)
    if stat.S_ISLNK(os.fstat(target).st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), "/dev/console")
    return target
