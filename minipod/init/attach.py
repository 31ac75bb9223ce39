"""The operation that puts an opened source (`minipod.init.sources`) at its place in the root.

Targets are resolved inside the root by openat2(RESOLVE_IN_ROOT), so that a symlink in the image can't lead a mount outside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Hashable
from dataclasses import dataclass

from minipod.init.operation import Context, NotDirect, Repeats
from minipod.init.targets import (
    directory_calls,
    file_calls,
    setattr_call,
    target_directory,
    target_file,
)
from minipod.linux import files, mount
from minipod.linux.files import PROC_SUPER_MAGIC
from minipod.linux.flags import AT, MountAttr, MountFlag, MoveMount, OpenTree, UmountFlag
from minipod.linux.program import FAIL, Buffer, Call, either, equal
from minipod.spec.container import Propagation

# What lxcfs shows a container in place of the machine's own numbers.
IN_PROC = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "slabinfo",
        "stat",
        "swaps",
        "uptime",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachMount(Repeats):
    """Put an opened source at *target*; attributes apply to the whole tree, unlike MS_BIND|MS_REMOUNT."""

    key: str
    target: str
    readonly: bool = False
    recursive_readonly: bool = False
    propagation: Propagation = Propagation.PRIVATE
    part: str = ""  # of an image: only this path of its files
    source: str = ""  # for describe()
    cause: str = ""

    def describe(self) -> str:
        ro = (
            " (recursively read-only)"
            if self.recursive_readonly
            else " (read-only)"
            if self.readonly
            else ""
        )
        part = f" in_root {self.part}" if self.part else ""
        return f"bind {self.source or self.key}{part} at {self.target}{ro} {self.propagation.value}"

    def apply(self, context: Context) -> None:
        tree = context.fds.pop(self.key)
        if self.part:
            tree = self._part_of(context, tree)
        self._set_propagation(tree)
        if self.readonly or self.recursive_readonly:
            recursive = AT.RECURSIVE if self.recursive_readonly else AT(0)
            mount.mount_setattr(tree, "", MountAttr.RDONLY, flags=AT.EMPTY_PATH | recursive)
        is_directory = stat.S_ISDIR(os.fstat(tree).st_mode)
        target = (target_directory if is_directory else target_file)(context, self.target)
        self._refuse_proc(tree, target)
        mount.move_mount(tree, "", target, "", MoveMount.F_EMPTY_PATH | MoveMount.T_EMPTY_PATH)
        os.close(tree)
        os.close(target)

    def shape(self) -> Hashable:
        ways = (self.readonly, self.recursive_readonly, self.propagation, self.part)
        return type(self), self.key, self.target, ways

    def calls(self, context: Context) -> list[Call]:
        """A part of an image, and what may be in /proc, take the long way; so does what must not, and that says why."""
        if self.part or self.target.startswith("/proc"):
            raise NotDirect(self.describe())
        tree, target = context.fds.pop(self.key), context.numbers.next()
        found = []
        if kind := self._propagation():
            found.append(setattr_call(tree, recursive=True, propagation=kind))
        if self.readonly or self.recursive_readonly:
            deep = self.recursive_readonly
            found.append(setattr_call(tree, attr_set=MountAttr.RDONLY, recursive=deep))
        kind_of_system, said = Buffer(_STATFS), Buffer(8)
        moved = int(MoveMount.F_EMPTY_PATH | MoveMount.T_EMPTY_PATH)
        return [
            *found,
            *either(
                Call("openat", (tree, b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), gives=said),
                [Call("close", (target,)), *directory_calls(context, self.target, target)],
                # EACCES, of NFS that takes root for nobody, does not say what it is.
                [
                    equal(said, -errno.ENOTDIR, yes=0, no=FAIL),
                    *file_calls(context, self.target, target),
                ],
            ),
            Call("fstatfs", (target, kind_of_system)),
            equal(kind_of_system, PROC_SUPER_MAGIC, yes=FAIL, no=0),
            Call("move_mount", (tree, b"", target, b"", moved)),
            Call("close", (target,)),
            context.numbers.close(tree),
        ]

    def _refuse_proc(self, tree: int, target: int) -> None:
        """Let nothing be mounted into /proc, by its name or by a link of the image's: we are about to write there and to trust
        what we read (CVE-2019-16884, CVE-2019-19921; runc, checkProcMount). Raises OSError EPERM."""
        if files.file_system(target) != PROC_SUPER_MAGIC or self.target in IN_PROC:
            return
        if self.target == "/proc" and files.file_system(tree) == PROC_SUPER_MAGIC:
            return
        raise OSError(errno.EPERM, "it is inside of /proc, where no volume may be", self.target)

    def _part_of(self, context: Context, tree: int) -> int:
        """Return *part* as a tree of its own: only what is mounted can be cloned, so the whole is, for a moment, in /dev."""
        dev = target_directory(context, "/dev")
        os.mkdir(".image", 0o700, dir_fd=dev)
        mount.move_mount(tree, "", dev, ".image", MoveMount.F_EMPTY_PATH)
        inner = files.open_in_root(tree, self.part, os.O_PATH)
        flags = OpenTree.CLONE | OpenTree.CLOEXEC | OpenTree.AT_EMPTY_PATH
        part = mount.open_tree(inner, "", flags)
        os.close(inner)
        os.close(tree)
        mount.umount2(f"/proc/self/fd/{dev}/.image", UmountFlag.MNT_DETACH)
        os.rmdir(".image", dir_fd=dev)
        os.close(dev)
        return part

    def _set_propagation(self, tree: int) -> None:
        if kind := self._propagation():
            mount.mount_setattr(
                tree, "", MountAttr(0), propagation=kind, flags=AT.EMPTY_PATH | AT.RECURSIVE
            )

    def _propagation(self) -> MountFlag:
        """Return what its mounts become; Bidirectional: 0, they stay in their peer group with the host."""
        kinds = {
            Propagation.PRIVATE: MountFlag.MS_PRIVATE,
            Propagation.HOST_TO_CONTAINER: MountFlag.MS_SLAVE,
        }
        return kinds.get(self.propagation, MountFlag(0))


_STATFS = 256  # bytes, more than struct statfs has; f_type is its first field
