"""Unpacked layers: one directory for each chain of layers, ready to be an overlay's lower directory.

    <root>/layers/<chain id>/fs         complete
    <root>/layers/<chain id>/unsynced   the boot in which it was unpacked, until the disk has it (`settle`)
    <root>/layers/.new-*, .old-*        on its way in (locked by who makes it) or out

A layer is unpacked on top of the layers below it, through an overlay mount, as a builder made it:
only so does `bin/tool` of a layer come to lie in /usr/bin when the base has `bin -> usr/bin`, and only
so keeps /tmp its mode when a layer brings tmp/x alone. Hence a directory belongs to a chain of layers
(image-spec, config.md, "Layer ChainID"), not to one layer. A chain is unpacked once: who comes second
waits for the first.

A kill leaves a .new-* without its lock, which `sweep` removes. A power cut may lose what was written but
not yet on the disk; a layer of an earlier boot that is still marked unsynced counts as missing, so that
no unpacking waits for the disk. The overlay mount is detached at once and lives on in a descriptor
only, so that a kill leaves no mount.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from minipod.image.limits import DEFAULT, Limits

if TYPE_CHECKING:
    from minipod.image.stream import LayerStream

Blob = TypeVar("Blob")  # what a caller knows a layer's blob by
NAME_DIGITS = 32  # of the chain id: all lower directories must fit into mount(2)'s one page


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

    def __init__(self, root: str, limits: Limits = DEFAULT) -> None:
        self._directory = os.path.join(root, "layers")
        self.limits = limits
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            self._boot = file.read()
        os.makedirs(self._directory, mode=0o700, exist_ok=True)

    def path(self, chain_id: str) -> str:
        """Return the lower directory of a chain, whether it is there or not."""
        return f"{self._place(chain_id)}/fs"

    def _place(self, chain_id: str) -> str:
        return f"{self._directory}/{_name(chain_id)}"

    def has(self, chain_id: str) -> bool:
        """Tell whether the chain is unpacked, and will be so after a power cut or has not seen one."""
        place = self._place(chain_id)
        return os.path.isdir(place) and _read(f"{place}/unsynced") in ("", self._boot)

    def unpack(
        self,
        diff_ids: Sequence[str],
        blobs: Sequence[Blob],
        archive: Callable[[Blob], LayerStream],
    ) -> None:
        """Unpack what is missing of an image, from the base up; *archive* opens one of its *blobs*. Raises ImageError."""
        below: tuple[str, ...] = ()  # top first
        for chain, diff_id, blob in zip(chain_ids(diff_ids), diff_ids, blobs, strict=True):
            if not self.has(chain):
                with archive(blob) as stream:
                    self.add(chain, below, stream, diff_id)
            below = (self.path(chain), *below)

    def add(self, chain_id: str, below: Sequence[str], stream: LayerStream, diff_id: str) -> None:
        """Unpack *stream* over the lower directories *below* (top first). Raises ImageError.

        Returns at once when another one has unpacked it meanwhile.
        """
        from minipod.image import (
            unpack,
            view,
        )  # with them ctypes, which nobody who only looks needs

        with self._making(chain_id) as temporary:
            if temporary is None:
                return
            top = f"{temporary}/fs"
            os.mkdir(top)
            os.chmod(top, 0o755)  # noqa: S103 the container's root directory
            with view.opened(top, below, temporary) as root:
                unpack.apply(stream, root, self.limits)
                stream.verify(diff_id)
            if below:
                remove_tree(f"{temporary}/work")
                os.rmdir(f"{temporary}/merged")
            with open(f"{temporary}/unsynced", "w", encoding="ascii") as file:
                file.write(self._boot)
            self.remove(chain_id)  # of a boot that ended before the disk had all of it
            os.rename(temporary, self._place(chain_id))

    @contextlib.contextmanager
    def _making(self, chain_id: str) -> Iterator[str | None]:
        """Yield an empty directory that is ours alone; None when the chain is there. Removed on an error."""
        temporary = f"{self._directory}/.new-{_name(chain_id)}"
        fd = -1
        try:
            while fd < 0 and not self.has(chain_id):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(temporary, 0o700)
                fd = _lock(temporary, fcntl.LOCK_EX)
            if fd < 0:
                yield None
                return
            empty_tree(temporary)  # a killed one's leavings
            try:
                yield temporary
            except BaseException:
                remove_tree(temporary)
                raise
        finally:
            if fd >= 0:
                os.close(fd)

    @contextlib.contextmanager
    def scratch(self, below: Sequence[str]) -> Iterator[tuple[int, str]]:
        """Yield (an fd of) a root over the layers *below* (top first) that can be written, and where its changes go.

        Both are gone afterwards.
        """
        from minipod.image import view  # as in `add`

        temporary = f"{self._directory}/.new-scratch-{os.urandom(8).hex()}"
        os.mkdir(temporary, 0o700)
        fd = _lock(temporary, fcntl.LOCK_EX)
        try:
            top = f"{temporary}/fs"
            os.mkdir(top, 0o755)
            with view.opened(top, below, temporary) as root:
                yield root, top
        finally:
            remove_tree(temporary)
            os.close(fd)

    def remove(self, chain_id: str) -> None:
        """Remove the directory of a chain; a missing one is fine."""
        gone = f"{self._directory}/.old-{_name(chain_id)}-{os.urandom(4).hex()}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._place(chain_id), gone)
            remove_tree(gone)

    def sweep(self, needed: Sequence[str], *, older: float = 0.0) -> None:
        """Remove all but the chains *needed* and what is not *older* (seconds); nobody may be adding one."""
        kept = {_name(chain) for chain in needed}
        for name in os.listdir(self._directory):
            path = f"{self._directory}/{name}"
            if name.startswith(".new-"):
                fd = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if fd >= 0:
                    remove_tree(path)
                    os.close(fd)
            elif name.startswith("."):
                remove_tree(path)
            elif name not in kept and os.stat(path).st_mtime + older <= time.time():
                self.remove(name)

    def settle(self) -> None:
        """Wait until the disk has all layers, then take their marks away: a power cut can't hurt them now."""
        marks = [f"{self._directory}/{name}/unsynced" for name in os.listdir(self._directory)]
        mine = [mark for mark in marks if _read(mark) == self._boot]
        if mine:
            from minipod.linux import files  # as in `add`

            fd = _open_directory(self._directory)
            try:
                files.syncfs(fd)
            finally:
                os.close(fd)
        for mark in mine:
            with contextlib.suppress(FileNotFoundError):  # the layer was removed meanwhile
                os.unlink(mark)


def _name(chain_id: str) -> str:
    """Return the name of a chain's directory: digits only, since the first chain id is what an image says (`parse_config`)."""
    assert chain_id.removeprefix("sha256:").isalnum(), chain_id
    return chain_id.removeprefix("sha256:")[:NAME_DIGITS]


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _lock(directory: str, how: int) -> int:
    """Return a descriptor that locks the directory of this name; -1: it is gone, or LOCK_NB and locked."""
    try:
        fd = _open_directory(directory)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(fd, how)
        if os.path.samestat(os.fstat(fd), os.stat(directory)):
            return fd
    except (FileNotFoundError, BlockingIOError):
        pass  # published, or removed, while we waited
    os.close(fd)
    return -1


def remove_tree(path: str) -> None:
    """Remove a directory and all below it; a missing one is fine. Follows no symlink."""
    try:
        empty_tree(path)
        os.rmdir(path)
    except FileNotFoundError:
        return


def empty_tree(path: str) -> None:
    """Remove all below a directory. Follows no symlink. Raises FileNotFoundError.

    Subdirectories are first moved to the top, so that a tree of any depth, which a hostile image can
    have, costs neither recursion nor descriptors. A mount that a kill left is detached first.
    """
    from minipod.image import view  # as in `Layers.add`

    top = _open_directory(path)
    try:
        view.detach(path)
        _empty(top)
    finally:
        os.close(top)


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
