"""Unpacked layers: one directory for each chain of layers, ready to be an overlay's lower directory.

    <root>/layers/<chain id>/fs    complete; a name that begins with a dot is on its way in or out

A layer is unpacked on top of the layers below it, through an overlay mount, as a builder made it:
only so does `bin/tool` of a layer come to lie in /usr/bin when the base has `bin -> usr/bin`, and only
so keeps /tmp its mode when a layer brings tmp/x alone. Hence a directory belongs to a chain of layers
(image-spec, config.md, "Layer ChainID"), not to one layer.

Who unpacks or removes holds the store's lock. The overlay mount is detached at once and lives on in a
descriptor only, so that a kill leaves no mount.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import stat
from collections.abc import Iterator, Sequence

from minipod.image import unpack
from minipod.image.stream import LayerStream
from minipod.linux import mount
from minipod.linux.flags import MountFlag, UmountFlag

NAME_DIGITS = 32  # of the chain id: all lower directories must fit into mount(2)'s one page
OVERLAY_OPTIONS = "index=off,metacopy=off,redirect_dir=off"  # the upper directory must stand alone


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the chain id of each layer with those below it, base first."""
    chains: list[str] = []
    for diff_id in diff_ids:
        if chains:
            text = f"{chains[-1]} {diff_id}"
            chains.append(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}")
        else:
            chains.append(diff_id)
    return tuple(chains)


class Layers:
    """The layer directories below *root*."""

    def __init__(self, root: str) -> None:
        self._directory = os.path.join(root, "layers")
        os.makedirs(self._directory, mode=0o700, exist_ok=True)

    def path(self, chain_id: str) -> str:
        """Return the lower directory of a chain, whether it is there or not."""
        return f"{self._place(chain_id)}/fs"

    def _place(self, chain_id: str) -> str:
        return f"{self._directory}/{chain_id.removeprefix('sha256:')[:NAME_DIGITS]}"

    def has(self, chain_id: str) -> bool:
        """Tell whether the chain is unpacked."""
        return os.path.isdir(self._place(chain_id))

    def add(self, chain_id: str, below: Sequence[str], stream: LayerStream, diff_id: str) -> None:
        """Unpack *stream* over the lower directories *below* (top first). Raises ImageError."""
        temporary = self._temporary(chain_id)
        top = f"{temporary}/fs"
        os.makedirs(top)
        os.chmod(top, 0o755)  # noqa: S103 the container's root directory
        try:
            with _view(top, below, temporary) as root:
                unpack.apply(stream, root)
                stream.verify(diff_id)
            if below:
                remove_tree(f"{temporary}/work")
                os.rmdir(f"{temporary}/merged")
            os.rename(temporary, self._place(chain_id))
        except BaseException:
            remove_tree(temporary)
            raise

    def remove(self, chain_id: str) -> None:
        """Remove the directory of a chain; a missing one is fine."""
        temporary = self._temporary(chain_id)
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._place(chain_id), temporary)
            remove_tree(temporary)

    def _temporary(self, chain_id: str) -> str:
        """Return the place for a chain on its way in or out; sweep what a kill left of others."""
        for name in os.listdir(self._directory):
            if name.startswith("."):
                remove_tree(f"{self._directory}/{name}")
        parent, name = os.path.split(self._place(chain_id))
        return f"{parent}/.{name}"


@contextlib.contextmanager
def _view(top: str, below: Sequence[str], temporary: str) -> Iterator[int]:
    """Yield an fd of *top*, or of an overlay with *top* over *below*."""
    root = _overlay(top, below, temporary) if below else _open_path(top)
    try:
        yield root
    finally:
        os.close(root)


def _overlay(top: str, below: Sequence[str], temporary: str) -> int:
    merged, work = f"{temporary}/merged", f"{temporary}/work"
    os.mkdir(merged)
    os.mkdir(work)
    _copy_attributes(below[0], top)
    options = f"lowerdir={':'.join(below)},upperdir={top},workdir={work},{OVERLAY_OPTIONS}"
    mount.mount("overlay", merged, "overlay", MountFlag(0), options)
    try:
        return _open_path(merged)
    finally:
        mount.umount2(merged, UmountFlag.MNT_DETACH)


def _open_path(directory: str) -> int:
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _copy_attributes(source: str, target: str) -> None:
    """The root directory of an overlay has the attributes of the uppermost layer's."""
    found = os.stat(source)
    os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))


def remove_tree(path: str) -> None:
    """Remove a directory and all below it; a missing one is fine. Follows no symlink.

    Subdirectories are first moved to the top, so that a tree of any depth, which a hostile image can
    have, costs neither recursion nor descriptors. A mount that a kill left is detached first.
    """
    try:
        top = _open_directory(path)
    except FileNotFoundError:
        return
    try:
        with contextlib.suppress(OSError):  # EINVAL: no mount here, as it should be
            mount.umount2(f"{path}/merged", UmountFlag.MNT_DETACH)
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(path)


def _empty(top: int) -> None:
    numbers = itertools.count()
    pending = _unlink_files(top)
    while pending:
        name = pending.pop()
        fd = _open_directory(name, top)
        try:
            for inner in _unlink_files(fd):
                moved = next(n for n in (f".{i}" for i in numbers) if not _exists(top, n))
                os.rename(inner, moved, src_dir_fd=fd, dst_dir_fd=top)
                pending.append(moved)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=top)


def _open_directory(name: str, parent: int | None = None) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _unlink_files(directory: int) -> list[str]:
    """Unlink all that is not a directory; return the names of the directories."""
    with os.scandir(directory) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in listed:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
    return [name for name, is_directory in listed if is_directory]
