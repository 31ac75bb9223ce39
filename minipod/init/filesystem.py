"""Operations that build a container's view of the file system, in its own mount namespace.

What is attached was opened before (`minipod.init.sources`); targets are resolved inside the root by openat2(RESOLVE_IN_ROOT), so
that a symlink in the image can't lead a mount outside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from minipod.init.operation import Context
from minipod.linux import files, mount
from minipod.linux.files import PROC_SUPER_MAGIC
from minipod.linux.flags import AT, AT_FDCWD, MountAttr, MountFlag, MoveMount, OpenTree, UmountFlag
from minipod.spec.bundle import RootFs
from minipod.spec.container import Propagation

PAGE = 4096  # mount(2) cuts its data at one page

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

NOSUID_NODEV_NOEXEC = MountFlag.MS_NOSUID | MountFlag.MS_NODEV | MountFlag.MS_NOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPropagation:
    """Receive mounts of the host, leak none. A Bidirectional volume was opened before: it stays a peer of the host's mount."""

    flags: MountFlag = MountFlag.MS_SLAVE
    cause: str = ""

    def describe(self) -> str:
        return f"propagation of /: r{(self.flags.name or '').removeprefix('MS_').lower()}"

    def apply(self, context: Context) -> None:
        mount.mount("", "/", "", MountFlag.MS_REC | self.flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRoot:
    """Mount the overlay over the image's layers. `volatile`: its upper directory dies with the container,
    so nobody waits for a sync at unmount (overlayfs.rst)."""

    root: RootFs
    cause: str = ""

    def describe(self) -> str:
        return f"mount overlay at {self.root.mountpoint}: {len(self.root.lower)} layers"

    def apply(self, context: Context) -> None:
        root = self.root
        options = self._options(root.lower)
        opened: list[int] = []
        if len(options) >= PAGE:
            # An open directory has a name of three digits: 500 layers, overlayfs' limit, fit into the page.
            opened = [
                os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in root.lower
            ]
            os.chdir("/proc/self/fd")
            options = self._options([str(fd) for fd in opened])
        mount.mount("overlay", root.mountpoint, "overlay", MountFlag(0), options)
        for fd in opened:
            os.close(fd)
        context.fds["root"] = os.open(root.mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _options(self, lower: Sequence[str]) -> str:
        return f"volatile,lowerdir={':'.join(lower)},upperdir={self.root.upper},workdir={self.root.work}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MountFilesystem:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MountCgroups:
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
        base = target_directory(context, "/sys/fs/cgroup")
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
        base = target_directory(context, "/sys/fs/cgroup")  # what is mounted there
        attrs = MountAttr.RDONLY  # of all these mounts; their super blocks stay writable
        mount.mount_setattr(base, "", attrs, flags=AT.EMPTY_PATH | AT.RECURSIVE)
        os.close(base)

    def _mount_trees(self, context: Context) -> None:
        base = target_directory(context, "/sys/fs/cgroup")
        for controllers in self.v1:
            os.mkdir(controllers, 0o755, dir_fd=base)
            _mount_cgroups(context, "cgroup", base, controllers, controllers)
        if self.unified:
            os.mkdir(self.unified, 0o755, dir_fd=base)
            _mount_cgroups(context, "cgroup2", base, self.unified)
        os.close(base)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachMount:
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
        kind = {
            Propagation.PRIVATE: MountFlag.MS_PRIVATE,
            Propagation.HOST_TO_CONTAINER: MountFlag.MS_SLAVE,
        }.get(self.propagation)  # Bidirectional: stays in its peer group with the host
        if kind is not None:
            mount.mount_setattr(
                tree, "", MountAttr(0), propagation=kind, flags=AT.EMPTY_PATH | AT.RECURSIVE
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPaths:
    """Hide paths: the null device (`device.keep_null`) over a file, an empty read-only tmpfs over a directory."""

    paths: tuple[str, ...]
    cause: str = ""

    def describe(self) -> str:
        return f"mask {' '.join(self.paths)}"

    def apply(self, context: Context) -> None:
        flags = MountFlag.MS_RDONLY | NOSUID_NODEV_NOEXEC
        null = f"/proc/self/fd/{context.fds['null']}"
        for path in self.paths:
            try:
                mount.mount(null, path, "", MountFlag.MS_BIND)
            except FileNotFoundError:
                continue
            except NotADirectoryError:
                mount.mount("tmpfs", path, "tmpfs", flags, "size=0,nr_inodes=1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOnlyPaths:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PivotRoot:
    """Make the new root `/` and let the old one go: both at ".", no put_old directory (pivot_root(2))."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOnlyRoot:
    """Make the root mount read-only; mounts below it keep their own attributes."""

    cause: str = ""

    def describe(self) -> str:
        return "read-only /"

    def apply(self, context: Context) -> None:
        mount.mount_setattr(AT_FDCWD, "/", MountAttr.RDONLY)


def target_directory(context: Context, path: str) -> int:
    """Open (making what is missing) the directory *path* inside the root; return an O_PATH fd."""
    return files.open_or_make_directory(context.fds["root"], path, 0o755)


def target_file(context: Context, path: str) -> int:
    """Open (making what is missing) the file *path* inside the root; return an O_PATH fd."""
    parent, name = os.path.split(path.rstrip("/"))
    directory = target_directory(context, parent)
    try:
        return files.open_in_root(context.fds["root"], path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        os.close(
            os.open(
                name, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o644, dir_fd=directory
            )
        )
        return files.open_in_root(context.fds["root"], path, os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(directory)
