"""Root file systems that are mounted before a container asks: the overlay over the layers that the last containers had.

    while the node is idle   directories, overlay, a detached copy of its mount      one after another, for each of the last containers
    a container of the same  its directories are renamed, its set-up moves the mount to its place

To mount an overlay with `volatile` makes seven inodes (fs/overlayfs/super.c: its work directory, a file without a name and a whiteout to
try, the mark of `volatile`), and its directories are three more: a fifth of a millisecond, and several on a disk that is slow to find
new ones.

The mount is nobody's but the descriptor's: what a killed daemon had is unmounted by the kernel, and its directories go at the next start.
A layer may be removed with its image, and be there again: each is known by its inode, and a mount of one that is gone is not given away.
"""

from __future__ import annotations

import asyncio
import logging
import os
import uuid
from collections import Counter, deque
from dataclasses import dataclass

from minipod.aio.trash import Trash
from minipod.linux import mount, namespaces
from minipod.linux.flags import AT_FDCWD, CloneFlag, MountFlag, OpenTree
from minipod.runtime.threads import alone
from minipod.spec.bundle import RootFs

logger = logging.getLogger(__name__)

Layers = tuple[str, ...]  # directories, top first
_NAME = 2 * len(
    f"/{uuid.uuid4().hex}"
)  # of those whose options do not fit into mount(2)'s page, none is prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRoot:
    """One that waits. *mount* is an O_PATH fd of the detached overlay."""

    layers: Layers
    inodes: tuple[tuple[int, int], ...]  # device and number of each layer
    directory: str  # with its "upper" and "work"
    mount: int


class PreparedRoots:
    """Those of one node, below *directory*, which is on the file system of containers' storage."""

    def __init__(self, directory: str, trash: Trash) -> None:
        self._directory = directory
        self._trash = trash
        self._last: deque[Layers] = deque(maxlen=0)  # of the last containers
        self._waiting: list[PreparedRoot] = []

    def keep(self, size: int) -> None:
        """Keep one for each of the last *size* containers from now on, which `more` prepares."""
        self._last = deque(maxlen=size)
        for left in os.listdir(self._directory) if os.path.isdir(self._directory) else ():
            self._trash.put(f"{self._directory}/{left}")  # by a daemon that was killed

    async def close(self) -> None:
        """Undo what waits, and prepare no more. Idempotent."""
        self._last = deque(maxlen=0)
        while self._waiting:
            await self._undo(self._waiting.pop())

    def take(self, layers: Layers, storage: str) -> int:
        """Return the mount of a root over *layers*, the caller's to close, whose directories are at *storage* now; -1: there is none."""
        if len(_options(self._directory, layers)) < mount.DATA_MAX - _NAME:
            self._last.append(layers)
        for root in self._waiting:
            if root.layers == layers and root.inodes == _inodes(layers):
                self._waiting.remove(root)
                try:
                    os.rename(root.directory, storage)
                except OSError as error:  # somebody removed it: so the container has its own made
                    logger.warning("the prepared root %s: %s", root.directory, error)
                    os.close(root.mount)
                    self._trash.put(root.directory)
                    return -1
                return root.mount
        return -1

    async def more(self) -> bool:
        """Prepare one, or undo one that the last containers were not like; False: all is well. Raises OSError."""
        wanted, waiting = Counter(self._last), Counter(root.layers for root in self._waiting)
        for root in self._waiting:
            if waiting[root.layers] > wanted[root.layers] or root.inodes != _inodes(root.layers):
                self._waiting.remove(root)
                await self._undo(root)
                return True
        for layers in wanted - waiting:
            if (inodes := _inodes(layers)) is not None:
                self._waiting.append(await self._prepare(layers, inodes))
                return True
        return False

    async def _prepare(self, layers: Layers, inodes: tuple[tuple[int, int], ...]) -> PreparedRoot:
        directory = f"{self._directory}/{uuid.uuid4().hex}"
        making = asyncio.ensure_future(alone(lambda: _mounted(directory, layers)))
        try:
            made = await asyncio.shield(making)
        except BaseException:
            await asyncio.wait({making})
            if not making.exception():
                os.close(making.result())
            self._trash.put(directory)
            raise
        return PreparedRoot(layers=layers, inodes=inodes, directory=directory, mount=made)

    async def _undo(self, root: PreparedRoot) -> None:
        await asyncio.to_thread(os.close, root.mount)  # which unmounts it
        self._trash.put(root.directory)


def make_directories(directory: str) -> None:
    """Make what an overlay writes to, in *directory*: its parents, too. Idempotent. Raises OSError."""
    for name, mode in (("", 0o700), ("/upper", 0o755), ("/work", 0o700)):
        os.makedirs(directory + name, mode, exist_ok=True)


def _inodes(layers: Layers) -> tuple[tuple[int, int], ...] | None:
    """Return which directories *layers* are now; None where one is missing."""
    try:
        found = [os.stat(layer) for layer in layers]
    except FileNotFoundError:
        return None
    return tuple((status.st_dev, status.st_ino) for status in found)


def _mounted(directory: str, layers: Layers) -> int:
    """Mount an overlay whose own directories are below *directory*; return an fd of its detached mount.

    In a thread that ends behind it: it is mounted over *directory* in a mount namespace of the thread's, out of sight.
    """
    make_directories(directory)
    namespaces.unshare(CloneFlag.CLONE_NEWNS)
    mount.mount("", "/", "", MountFlag.MS_REC | MountFlag.MS_PRIVATE)
    mount.mount("overlay", directory, "overlay", MountFlag(0), _options(directory, layers))
    return mount.open_tree(AT_FDCWD, directory, OpenTree.CLONE | OpenTree.CLOEXEC)


def _options(directory: str, layers: Layers) -> str:
    """Return the options of the mount."""
    root = RootFs(
        lower=layers, upper=f"{directory}/upper", work=f"{directory}/work", mountpoint=directory
    )
    return root.options(layers)
