"""The ImageService over the store, and what a container's set-up needs of an image (cached: one stat-free look-up)."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from minipod.errors import ImageError, NotFound
from minipod.image import reference
from minipod.image.config import RECIPE_LABEL
from minipod.image.registry.progress import Tell, quiet
from minipod.image.store import Image, ImageStore
from minipod.linux import files
from minipod.runtime.bundle import ImageFacts
from minipod.runtime.service import ImageStatus
from minipod.spec.registry import ANONYMOUS, AuthConfig

if TYPE_CHECKING:
    from minipod.image.registry.pull import Puller

ACCOUNT_FILE_MAX = 1 << 20  # bytes of passwd or group that we read


class Images:
    """Looks images up. The store itself is synchronous; its slow verbs run in threads."""

    def __init__(self, store: ImageStore, in_use: Callable[[], set[str]], registries: str) -> None:
        self._store = store
        self._registries = registries
        self._in_use = in_use
        self._facts: dict[str, ImageFacts] = {}  # by image id
        # By the name that was asked for; they hold while the store finds the same image for it.
        self._named: dict[str, tuple[Image, ImageFacts]] = {}

    @cached_property
    def _puller(self) -> Puller:
        from minipod.image.registry.pull import Puller  # 15 modules, for a node that pulls

        return Puller(self._store, self._registries)

    async def facts(self, image: str) -> ImageFacts:
        """Return what a bundle needs. Raises ImageError when the image is not here."""
        found = self._store.resolve(image)  # no thread: a stat, the tags are in memory
        if found is None or (known := self._facts.get(found.id)) is None:
            return await asyncio.to_thread(self._read_facts, image)
        named = self._named.get(image)
        if named is None or named[0] is not found:
            named = found, replace(known, ref=image, digest=_pinned(found, image))
            self._named[image] = named
        return named[1]

    def _read_facts(self, image: str) -> ImageFacts:
        found = self._store.resolve(image)
        if found is None:
            raise ImageError(f"image {image} is not in the store", reason="ErrImageNeverPull")
        known = self._facts.get(found.id)
        if known is None:
            layers = self._store.layers(found)
            known = ImageFacts(
                id=found.id,
                ref=image,
                config=self._store.config(found),
                layers=layers,
                passwd=read_in_layers(layers, "etc/passwd"),
                group=read_in_layers(layers, "etc/group"),
            )
            self._facts[found.id] = known
        return replace(known, ref=image, digest=_pinned(found, image))

    async def hold(self, images: Sequence[str]) -> None:
        """Make sure of *images* (ids) that a record needs by now. Raises ImageError: removed meanwhile."""
        if not self._store.hold(images, wait=False):
            await asyncio.to_thread(self._store.hold, images)

    async def image_status(self, image: str) -> ImageStatus | None:
        found = self._store.resolve(image)  # no thread: a stat, the tags are in memory
        return None if found is None else self._status(found)

    async def list_images(self) -> list[ImageStatus]:
        return [self._status(i) for i in await asyncio.to_thread(self._store.list)]

    async def pull_image(
        self,
        image: str,
        auth: AuthConfig = ANONYMOUS,
        *,
        platform: str = "",
        tell: Tell = quiet,
    ) -> ImageStatus:
        return self._status(await self._puller.pull(image, auth, wanted=platform, tell=tell))

    async def remove_image(self, image: str) -> None:
        found = await asyncio.to_thread(self._store.resolve, image)
        if found is None:
            raise NotFound(f"no image {image}")
        await asyncio.to_thread(self._store.remove, image, in_use=self._in_use)
        self._facts.pop(found.id, None)
        self._named.clear()

    def _status(self, image: Image) -> ImageStatus:
        config = self._store.config(image)
        return ImageStatus(
            id=image.id,
            repo_tags=image.tags,
            repo_digests=image.digests,
            size=image.size,
            user=config.user,
            made_here=RECIPE_LABEL in config.labels,
        )


def _pinned(image: Image, name: str) -> str:
    """Return the repository digest to show for an image that was asked for as *name*."""
    try:
        repository = reference.parse(name).name
    except ImageError:  # 64 bare digits: an id
        repository = ""
    of_name = (d for d in image.digests if d.partition("@")[0] == repository)
    return next(of_name, next(iter(image.digests), ""))


def read_in_layers(layers: tuple[str, ...], path: str) -> bytes:
    """Return the content of the file *path*, in a directory of the root, as the overlay would show it; b"" for anything but a plain file.

    Resolved inside each layer: a symlink in an image must not make us read a file of the host. Looked at before it is opened: to open a
    device is to use it, and a pipe waits.
    """
    for layer in layers:
        root = os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if (found := _seen(root, path)) >= 0:
                return _content(found)
            if _hides_lower(root, os.path.dirname(path)):
                break
        finally:
            os.close(root)
    return b""


def _seen(root: int, path: str) -> int:
    """Return an O_PATH descriptor, -1 for nothing. A whiteout is something: a device, which has no content."""
    try:
        return files.open_in_root(root, path, os.O_PATH)
    except OSError:
        return -1


def _content(fd: int) -> bytes:
    """Read and close what an O_PATH descriptor stands for."""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        with open(f"/proc/self/fd/{fd}", "rb") as f:
            return f.read(ACCOUNT_FILE_MAX)
    finally:
        os.close(fd)


def _hides_lower(root: int, directory: str) -> bool:
    """Whether this layer shows nothing of those below it there: not a directory, or an opaque one."""
    if (fd := _seen(root, directory)) < 0:
        return False
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            return True
        return os.getxattr(f"/proc/self/fd/{fd}", "trusted.overlay.opaque") == b"y"
    except OSError:  # no such attribute
        return False
    finally:
        os.close(fd)
