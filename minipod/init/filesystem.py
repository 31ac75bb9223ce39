"""Operations that mount a container's own file systems, in its own mount namespace: the overlay, /proc, /sys, cgroups, /dev."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Hashable
from dataclasses import dataclass

from minipod.init.operation import Context, NotDirect, Repeats
from minipod.init.targets import (
    directory_calls,
    in_root,
    plain_directory,
    setattr_call,
    target_directory,
)
from minipod.linux import files, mount
from minipod.linux.flags import AT, AT_FDCWD, CloneFlag, MountAttr, MountFlag, MoveMount
from minipod.linux.program import Call, Text, unless
from minipod.spec.bundle import RootFs

CGROUPS = "/sys/fs/cgroup"

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
NOSUID_NODEV_NOEXEC = MountFlag.MS_NOSUID | MountFlag.MS_NODEV | MountFlag.MS_NOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPropagation(Repeats):
    """Receive mounts of the host, leak none. A Bidirectional volume was opened before: it stays a peer of the host's mount."""

    flags: MountFlag = MountFlag.MS_SLAVE
    cause: str = ""

    def describe(self) -> str:
        return f"propagation of /: r{(self.flags.name or '').removeprefix('MS_').lower()}"

    def apply(self, context: Context) -> None:
        mount.mount("", "/", "", MountFlag.MS_REC | self.flags)

    def calls(self, context: Context) -> list[Call]:
        """Nothing: by the short way there is no mount of the host's, but the sources."""
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRoot(Repeats):
    """Mount the overlay over the image's layers (`RootFs.options`).

    By the short way it is mounted nowhere first, or was mounted before (`fds["root"]`). Then the process leaves the host's mount namespace
    for a copy of the empty one at `fds["bare"]`, and mounts it at `/`.
    """

    root: RootFs
    cause: str = ""

    def describe(self) -> str:
        return f"mount overlay at {self.root.mountpoint}: {len(self.root.lower)} layers"

    def apply(self, context: Context) -> None:
        root = self.root
        options = root.options(root.lower)
        opened: list[int] = []
        if len(options) >= mount.DATA_MAX:
            # An open directory has a name of three digits: OVL_MAX_STACK of them fit into the page.
            opened = [os.open(path, _DIRECTORY) for path in root.lower]
            os.chdir("/proc/self/fd")
            options = root.options([str(fd) for fd in opened])
        mount.mount("overlay", root.mountpoint, "overlay", MountFlag(0), options)
        for fd in opened:
            os.close(fd)
        context.fds["root"] = os.open(root.mountpoint, _DIRECTORY)

    def calls(self, context: Context) -> list[Call]:
        mounted = [] if "root" in context.fds else self._mounted(context)
        bare = context.fds.pop("bare")
        at_root = (context.fds["root"], b"", AT_FDCWD, b"/", int(MoveMount.F_EMPTY_PATH))
        return [
            *mounted,
            Call("setns", (bare, int(CloneFlag.CLONE_NEWNS))),
            Call("unshare", (int(CloneFlag.CLONE_NEWNS),)),
            context.numbers.close(bare),
            Call("move_mount", at_root),
        ]

    def _mounted(self, context: Context) -> list[Call]:
        """Mount it by fsconfig(2). Layers whose names are too long for one value are named by their descriptors, as `apply` does."""
        *lower, upper, work = self.texts(context)
        if max(len(upper), len(work)) > mount.FSCONFIG_MAX:
            raise NotDirect("directories whose names are too long")
        numbers = context.numbers
        layers = [] if self._named() else [numbers.open() for _ in lower]
        names = lower[0] if self._named() else ":".join(map(str, layers)).encode()
        if len(names) > mount.FSCONFIG_MAX:
            raise NotDirect("too many layers")
        system, text = numbers.open(), mount.FSCONFIG_SET_STRING
        context.fds["root"] = numbers.open()
        opened = [Call("openat", (AT_FDCWD, layer, _DIRECTORY)) for layer in lower]
        return [
            *([*opened, Call("chdir", (b"/proc/self/fd",))] if layers else []),
            Call("fsopen", (b"overlay", mount.FSOPEN_CLOEXEC)),
            Call("fsconfig", (system, text, b"source", b"overlay", 0)),
            Call("fsconfig", (system, text, b"lowerdir", names, 0)),
            Call("fsconfig", (system, text, b"upperdir", upper, 0)),
            Call("fsconfig", (system, text, b"workdir", work, 0)),
            Call("fsconfig", (system, mount.FSCONFIG_SET_FLAG, b"volatile", 0, 0)),
            Call("fsconfig", (system, mount.FSCONFIG_CMD_CREATE, 0, 0, 0)),
            Call("fsmount", (system, mount.FSMOUNT_CLOEXEC, 0)),
            *map(numbers.close, (*layers, system)),
        ]

    def _named(self) -> bool:
        """Whether the names of all layers fit into one value."""
        return len(os.fsencode(":".join(self.root.lower))) <= mount.FSCONFIG_MAX

    def shape(self) -> Hashable:
        return type(self), 0 if self._named() else len(self.root.lower)

    def texts(self, context: Context) -> list[Text]:
        if "root" in context.fds:
            return []
        lower = (":".join(self.root.lower),) if self._named() else self.root.lower
        return [Text(os.fsencode(name)) for name in (*lower, self.root.upper, self.root.work)]

    def forget(self) -> None:
        """Let the same directories be mounted once more: a volatile mount leaves a mark that forbids it (overlayfs.rst)."""
        with contextlib.suppress(FileNotFoundError):
            mark = f"{self.root.work}/work/incompat/volatile"
            os.unlink(f"{mark}/dirty")
            os.rmdir(mark)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountFilesystem(Repeats):
    """Mount a new file system at *target* in the root.

    An image whose /proc or /sys is a symlink is refused (CVE-2019-19921): masks would be put elsewhere.
    """

    fstype: str
    target: str
    flags: MountFlag = NOSUID_NODEV_NOEXEC
    options: str = ""
    optional: bool = False  # a kernel without it costs the feature, not the container
    cause: str = ""

    def describe(self) -> str:
        options = f" {self.options}" if self.options else ""
        return f"mount {self.fstype} at {self.target}{options}"

    def apply(self, context: Context) -> None:
        os.close(target_directory(context, self.target))
        fd = files.open_plain_directory(context.fds["root"], self.target)
        try:
            mount.mount(self.fstype, f"/proc/self/fd/{fd}", self.fstype, self.flags, self.options)
        except OSError as e:
            if not self.optional:
                raise OSError(e.errno, e.strerror, self.target) from e
            context.warn(f"{self.describe()}: {e.strerror}")
        finally:
            os.close(fd)

    def calls(self, context: Context) -> list[Call]:
        """A kernel without an optional one takes the long way."""
        fd = context.numbers.open()
        there = plain_directory(context, self.target)
        made = [*directory_calls(context, self.target, fd), Call("close", (fd,)), there]
        return [
            *unless(there, made),
            Call("fchdir", (fd,)),
            _mount_here(self.fstype, self.flags, self.options),
            context.numbers.close(fd),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class MountCgroups(Repeats):
    """Show the container its own cgroups at /sys/fs/cgroup, read-only: the JVM and Go read limits there."""

    v1: tuple[str, ...] = ()  # controllers with a v1 hierarchy, e.g. ("memory", "cpu,cpuacct")
    unified: str = (
        ""  # where the v2 hierarchy goes below /sys/fs/cgroup: "." alone, "unified" in hybrid mode
    )
    cause: str = ""

    def describe(self) -> str:
        v2 = f" cgroup2 at {self.unified}" if self.unified else ""
        return f"mount cgroups read-only: {' '.join(self.v1)}{v2}"

    def apply(self, context: Context) -> None:
        base = target_directory(context, CGROUPS)
        if self.unified == ".":
            mounted = _mount_cgroups(context, "cgroup2", base, ".")
            os.close(base)
            if not mounted:
                return
        else:
            here = f"/proc/self/fd/{base}"
            mount.mount("tmpfs", here, "tmpfs", NOSUID_NODEV_NOEXEC, "mode=755,size=64k")
            os.close(base)
            self._mount_trees(context)
        base = target_directory(context, CGROUPS)  # what is mounted there
        attrs = MountAttr.RDONLY  # of all these mounts; their super blocks stay writable
        mount.mount_setattr(base, "", attrs, flags=AT.EMPTY_PATH | AT.RECURSIVE)
        os.close(base)

    def _mount_trees(self, context: Context) -> None:
        base = target_directory(context, CGROUPS)
        for controllers in self.v1:
            os.mkdir(controllers, 0o755, dir_fd=base)
            _mount_cgroups(context, "cgroup", base, controllers, controllers)
        if self.unified:
            os.mkdir(self.unified, 0o755, dir_fd=base)
            _mount_cgroups(context, "cgroup2", base, self.unified)
        os.close(base)

    def calls(self, context: Context) -> list[Call]:
        """A hierarchy that this kernel does not give takes the long way."""
        base = context.numbers.open()
        top = (
            _mount_here("cgroup2", NOSUID_NODEV_NOEXEC)
            if self.unified == "."
            else _mount_here("tmpfs", NOSUID_NODEV_NOEXEC, "mode=755,size=64k")
        )
        trees: list[Call] = []
        for name in self.v1:
            trees += _mount_tree("cgroup", name, name)
        if self.unified not in ("", "."):
            trees += _mount_tree("cgroup2", self.unified)
        return [
            *directory_calls(context, CGROUPS, base),
            Call("fchdir", (base,)),
            top,
            Call("close", (base,)),
            in_root(context, CGROUPS, os.O_PATH | os.O_DIRECTORY),  # what is mounted there
            *([Call("fchdir", (base,)), *trees] if trees else []),
            setattr_call(base, attr_set=MountAttr.RDONLY, recursive=True),
            context.numbers.close(base),
        ]


def _mount_here(fstype: str, flags: MountFlag, options: str = "") -> Call:
    """Return mount(2) at the working directory, which need not be named."""
    name = fstype.encode()
    return Call("mount", (name, b".", name, int(flags), options.encode() if options else 0))


def _mount_tree(fstype: str, name: str, controllers: str = "") -> list[Call]:
    """Return the calls that mount a hierarchy at *name*, below the working directory."""
    kind, target = fstype.encode(), name.encode()
    options = controllers.encode() if controllers else 0
    return [
        Call("mkdirat", (AT_FDCWD, target, 0o755)),
        Call("mount", (kind, target, kind, int(NOSUID_NODEV_NOEXEC), options)),
    ]


def _mount_cgroups(
    context: Context, fstype: str, at: int, name: str, controllers: str = ""
) -> bool:
    """Mount a hierarchy at *name* below the directory fd *at*; one that this kernel does not give costs a warning."""
    try:
        mount.mount(fstype, f"/proc/self/fd/{at}/{name}", fstype, NOSUID_NODEV_NOEXEC, controllers)
    except OSError as e:
        context.warn(f"mount {fstype} at {name}: {e.strerror}")
        return False
    return True
