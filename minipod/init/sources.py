"""Operations that open what a container is shown of the host and of images, as detached mount trees.

Sources are opened by fd before anything is mounted, so nothing can be exchanged under us and no host path is walked
afterwards. For a pod in a user namespace of its own they are id-mapped here, while this process is still root of the host:
the owners that a disk has are the pod's ids then, in both directions (mount_setattr(2), MOUNT_ATTR_IDMAP).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Hashable
from dataclasses import dataclass

from minipod.init.operation import Context, NotDirect, Repeats
from minipod.init.targets import opening
from minipod.linux import files, mount
from minipod.linux.flags import (
    AT,
    AT_FDCWD,
    MountAttr,
    MountFlag,
    MoveMount,
    OpenTree,
    Resolve,
    UmountFlag,
)
from minipod.linux.program import Call, Text

CLONED = OpenTree.CLONE | OpenTree.CLOEXEC | OpenTree.AT_RECURSIVE


def map_ids(context: Context, tree: int, what: str) -> None:
    """Id-map the detached mount *tree* by the pod's user namespace; mounts below it keep their owners (nobody's, there).

    Raises OSError that says what is wrong with *what*.
    """
    userns = context.fds["ns:user"]
    try:
        mount.mount_setattr(tree, "", MountAttr.IDMAP, flags=AT.EMPTY_PATH, userns_fd=userns)
    except OSError as e:
        why = {
            errno.EINVAL: "its file system can't be id-mapped by this kernel, which hostUsers: false needs"
            " (ext4, xfs, btrfs and the like can be, tmpfs since Linux 6.3)",
            errno.EPERM: "it is id-mapped already, or it is another user namespace's",
        }
        detail = why.get(e.errno or 0, e.strerror)
        raise OSError(e.errno, detail, what) from e


def attach_layers(context: Context, layers: tuple[str, ...], stage: str) -> list[str]:
    """Mount a tmpfs at *stage* with the id-mapped *layers* in it; return their names there, in the same order.

    They must be in a mount namespace: overlayfs takes no detached mount before Linux 6.5 (clone_private_mount).
    """
    flags = MountFlag.MS_NOSUID | MountFlag.MS_NODEV
    mount.mount("layers", stage, "tmpfs", flags, "mode=700,size=64k")
    names = [str(i) for i in range(len(layers))]
    for name, layer in zip(names, layers, strict=True):
        tree = mount.open_tree(AT_FDCWD, layer, OpenTree.CLONE | OpenTree.CLOEXEC)
        map_ids(context, tree, layer)
        os.mkdir(f"{stage}/{name}")
        mount.move_mount(tree, "", AT_FDCWD, f"{stage}/{name}", MoveMount.F_EMPTY_PATH)
        os.close(tree)
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSource(Repeats):
    """Open *path* as a detached clone of its mount tree, under the name *key*.

    With *sub_path* the source is resolved inside *path*, and no symlink can lead out (CVE-2017-1002101). What is missing of
    it is made, with the mode of *path* (K8S pkg/volume/util/subpath, SafeMakeDir).
    """

    key: str
    path: str
    sub_path: str = ""
    mapped: bool = False
    cause: str = ""

    def describe(self) -> str:
        inside = f" in_root {self.sub_path}" if self.sub_path else ""
        return f"open_tree {self.path}{inside}" + (", id-map it" if self.mapped else "")

    def apply(self, context: Context) -> None:
        tree = self._open()
        if self.mapped:
            map_ids(context, tree, self.path)
        context.fds[self.key] = tree

    def calls(self, context: Context) -> list[Call]:
        """What is missing of a sub-path takes the long way, which makes it."""
        if self.mapped:
            raise NotDirect("mapped ids")
        flags, numbers, (path, *inside) = CLONED, context.numbers, self.texts(context)
        if not self.sub_path:
            context.fds[self.key] = numbers.open()
            return [Call("open_tree", (AT_FDCWD, path, int(flags)))]
        volume, inner, tree = numbers.open(), numbers.open(), numbers.open()
        context.fds[self.key] = tree
        resolve = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS
        return [
            Call("openat", (AT_FDCWD, path, os.O_PATH | os.O_CLOEXEC)),
            *(opening(volume, part, os.O_PATH, resolve) for part in inside),
            Call("open_tree", (inner, b"", int(flags | OpenTree.AT_EMPTY_PATH))),
            numbers.close(volume),
            numbers.close(inner),
        ]

    def shape(self) -> Hashable:
        return type(self), self.key, bool(self.sub_path), self.mapped

    def texts(self, context: Context) -> list[Text]:
        return [Text(os.fsencode(path)) for path in (self.path, self.sub_path) if path]

    def _open(self) -> int:
        if not self.sub_path:
            return mount.open_tree(AT_FDCWD, self.path, CLONED)
        volume = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
        inner = _open_sub_path(volume, self.sub_path)
        os.close(volume)
        tree = mount.open_tree(inner, "", CLONED | OpenTree.AT_EMPTY_PATH)
        os.close(inner)
        return tree


def _open_sub_path(volume: int, path: str) -> int:
    try:
        return files.open_in_root(volume, path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        mode = stat.S_IMODE(os.fstat(volume).st_mode)
        old = os.umask(0)
        try:
            return files.open_or_make_directory(volume, path, mode)
        finally:
            os.umask(old)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenImage:
    """Open the files of an image as a detached, read-only tree, under the name *key*: its one layer, or an overlay of them.

    With *stage*, a directory to mount at, the layers are id-mapped.
    """

    key: str
    image: str
    layers: tuple[str, ...]  # top first
    stage: str = ""
    cause: str = ""

    def describe(self) -> str:
        mapped = ", id-mapped" if self.stage else ""
        return f"open image {self.image}: {len(self.layers)} layers{mapped}"

    def apply(self, context: Context) -> None:
        tree = self._overlay(context) if len(self.layers) > 1 else self._clone(context)
        attrs = MountAttr.RDONLY | MountAttr.NOSUID | MountAttr.NODEV
        mount.mount_setattr(tree, "", attrs, flags=AT.EMPTY_PATH)
        context.fds[self.key] = tree

    def _clone(self, context: Context) -> int:
        (layer,) = self.layers
        tree = mount.open_tree(AT_FDCWD, layer, OpenTree.CLONE | OpenTree.CLOEXEC)
        if self.stage:
            map_ids(context, tree, layer)
        return tree

    def _overlay(self, context: Context) -> int:
        if self.stage:
            names = attach_layers(context, self.layers, self.stage)
            tree = self._overlay_of(names, self.stage)
            mount.umount2(self.stage, UmountFlag.MNT_DETACH)
            return tree
        base = os.path.commonpath(self.layers)
        return self._overlay_of([os.path.relpath(path, base) for path in self.layers], base)

    def _overlay_of(self, layers: list[str], base: str) -> int:
        """An overlay that is never written needs no upper directory; layers by name, relative to a directory of all of them."""
        os.chdir(base)
        try:
            return _mount_layers([("lowerdir+", layer) for layer in layers])
        except OSError:
            # Linux 6.5 has it; older ones take what they do not know, and refuse to mount it
            return _mount_layers([("lowerdir", ":".join(layers))])  # 255 bytes at most
        finally:
            os.chdir("/")


def _mount_layers(options: list[tuple[str, str]]) -> int:
    fs = mount.fsopen("overlay")
    try:
        for key, value in options:
            mount.fsconfig_set_string(fs, key, value)
        mount.fsconfig_create(fs)
        return mount.fsmount(fs, MountAttr.RDONLY)
    finally:
        os.close(fs)
