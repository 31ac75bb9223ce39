"""Operations that make the container's root `/`, and hide or protect what is in it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Hashable
from dataclasses import dataclass

from minipod.init.filesystem import NOSUID_NODEV_NOEXEC
from minipod.init.operation import Context, Repeats
from minipod.init.targets import setattr_call
from minipod.linux import mount
from minipod.linux.flags import AT, AT_FDCWD, MountAttr, MountFlag, MoveMount, OpenTree, UmountFlag
from minipod.linux.program import FAIL, Buffer, Call, equal


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPaths(Repeats):
    """Hide paths: the null device (`device.keep_null`) over a file, an empty read-only tmpfs over a directory."""

    paths: tuple[str, ...]
    cause: str = ""

    def describe(self) -> str:
        return f"mask {' '.join(self.paths)}"

    def apply(self, context: Context) -> None:
        flags = MountFlag.MS_RDONLY | NOSUID_NODEV_NOEXEC
        null = f"/proc/self/fd/{context.fds['null']}"
        for path in self.paths:
            if os.path.isdir(path):
                mount.mount("tmpfs", path, "tmpfs", flags, _EMPTY)
                continue
            with contextlib.suppress(FileNotFoundError):
                mount.mount(null, path, "", MountFlag.MS_BIND)

    def calls(self, context: Context) -> list[Call]:
        """Looks what a path is (with "/" behind it, it must be a directory): to bind a file over a directory fails only when the clone of
        its mount is there, and the end of that waits for an RCU grace period (fs/namespace.c, namespace_unlock)."""
        flags, bind = int(MountFlag.MS_RDONLY | NOSUID_NODEV_NOEXEC), int(MountFlag.MS_BIND)
        null = f"/proc/self/fd/{context.fds['null']}".encode()
        found: list[Call] = []
        for path in map(os.fsencode, self.paths):
            said, directory = Buffer(8), path + b"/"
            found += [
                Call("faccessat", (AT_FDCWD, directory, os.F_OK), gives=said, on_error=0, then=2),
                equal(said, -errno.ENOENT, yes=2, no=0),
                Call("mount", (null, path, 0, bind, 0), then=1),
                Call("mount", (b"tmpfs", path, b"tmpfs", flags, _EMPTY.encode())),
            ]
        return found


_EMPTY = "size=0,nr_inodes=1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOnlyPaths(Repeats):
    """Make paths read-only by binding them over themselves."""

    paths: tuple[str, ...]
    cause: str = ""

    def describe(self) -> str:
        return f"read-only {' '.join(self.paths)}"

    def apply(self, context: Context) -> None:
        for path in self.paths:
            try:
                tree = mount.open_tree(
                    AT_FDCWD, path, OpenTree.CLONE | OpenTree.CLOEXEC | OpenTree.AT_RECURSIVE
                )
            except FileNotFoundError:
                continue
            mount.mount_setattr(tree, "", MountAttr.RDONLY, flags=AT.EMPTY_PATH | AT.RECURSIVE)
            mount.move_mount(tree, "", AT_FDCWD, path, MoveMount.F_EMPTY_PATH)
            os.close(tree)

    def calls(self, context: Context) -> list[Call]:
        clone = int(OpenTree.CLONE | OpenTree.CLOEXEC | OpenTree.AT_RECURSIVE)
        tree = context.numbers.next()
        found: list[Call] = []
        for path in map(os.fsencode, self.paths):
            said = Buffer(8)
            found += [
                Call("open_tree", (AT_FDCWD, path, clone), gives=said, on_error=0, then=1),
                equal(said, -errno.ENOENT, yes=3, no=FAIL),
                setattr_call(tree, attr_set=MountAttr.RDONLY, recursive=True),
                Call("move_mount", (tree, b"", AT_FDCWD, path, int(MoveMount.F_EMPTY_PATH))),
                Call("close", (tree,)),
            ]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class PivotRoot(Repeats):
    """Make the new root `/` and let the old one go: both at ".", no put_old directory (pivot_root(2)).

    By the short way it is mounted over an empty directory that is all else in this mount namespace (`filesystem.MountRoot.calls`), as
    others are over the kernel's rootfs: there is nothing to be let go.
    """

    mountpoint: str
    cause: str = ""

    def describe(self) -> str:
        return f"pivot_root {self.mountpoint}"

    def apply(self, context: Context) -> None:
        # The mount, not the directory below it that was opened before the overlay came.
        os.fchdir(context.fds["root"])
        mount.pivot_root(".", ".")
        mount.umount2(".", UmountFlag.MNT_DETACH)
        os.chdir("/")

    def shape(self) -> Hashable:
        return (type(self),)

    def calls(self, context: Context) -> list[Call]:
        return [
            Call("fchdir", (context.fds["root"],)),
            Call("chroot", (b".",)),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOnlyRoot(Repeats):
    """Make the root mount read-only; mounts below it keep their own attributes."""

    cause: str = ""

    def describe(self) -> str:
        return "read-only /"

    def apply(self, context: Context) -> None:
        mount.mount_setattr(AT_FDCWD, "/", MountAttr.RDONLY)

    def calls(self, context: Context) -> list[Call]:
        return [setattr_call(AT_FDCWD, b"/", MountAttr.RDONLY)]
