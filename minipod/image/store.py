"""The image store of one node: names to images, images to unpacked layers.

<root>/blobs/sha256/...    every blob (content)
<root>/index.json          names -> manifests (tags)
<root>/layers/<diff id>/   a layer, unpacked once; complete, or its name begins with a dot
<root>/lock                flock of whoever changes something
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from minipod.errors import FailedPrecondition, ImageError, NotFound
from minipod.image import reference, unpack
from minipod.image.config import ImageConfig, parse_config
from minipod.image.content import ContentStore, Descriptor
from minipod.image.tags import Entry, TagDatabase

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of the store."""

    id: str  # digest of the config
    manifest: str  # digest of the manifest
    tags: tuple[str, ...]  # canonical: docker.io/library/busybox:1.36
    size: int  # bytes of its blobs
    layer_digests: tuple[str, ...]  # base first

    @property
    def digests(self) -> tuple[str, ...]:
        """Return name@digest for each repository."""
        names = dict.fromkeys(t.rpartition(":")[0] for t in self.tags)
        return tuple(f"{name}@{self.manifest}" for name in names)


Images = list[Image]  # inside the class, `list` is the verb


class ImageStore:
    """Synchronous; an event loop calls it in threads."""

    def __init__(self, root: str) -> None:
        self._root = root
        os.makedirs(f"{root}/layers", mode=0o700, exist_ok=True)
        self.content = ContentStore(root)
        self._tags = TagDatabase(root)
        self._images: dict[str, Image] = {}  # by manifest digest
        self._configs: dict[str, ImageConfig] = {}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one who changes the store."""
        fd = os.open(f"{self._root}/lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    # -- look up

    def list(self) -> Images:
        """Return all images, in the order they came."""
        manifests = dict.fromkeys(e.manifest.digest for e in self._tags.entries())
        return [self._image(digest) for digest in manifests]

    def resolve(self, name: str) -> Image | None:
        """Find an image by reference, digest, or (part of) its id; None when it is not here. Raises ImageError."""
        hexadecimal = name.removeprefix("sha256:")
        if len(hexadecimal) >= 12 and all(c in "0123456789abcdef" for c in hexadecimal):
            for image in self.list():
                if image.id.removeprefix("sha256:").startswith(hexadecimal):
                    return image
        wanted = reference.parse(name)
        for entry in self._tags.entries():
            if wanted.digest:
                if entry.manifest.digest == wanted.digest:
                    return self._image(wanted.digest)
            elif entry.name == wanted.canonical():
                return self._image(entry.manifest.digest)
        return None

    def _image(self, digest: str) -> Image:
        tags = tuple(e.name for e in self._tags.entries() if e.manifest.digest == digest and e.name)
        known = self._images.get(digest)
        if known is None or known.tags != tags:
            raw = self.content.read(digest)
            manifest = json.loads(raw)
            blobs = [manifest["config"], *manifest["layers"]]
            known = Image(
                id=manifest["config"]["digest"],
                manifest=digest,
                tags=tags,
                size=len(raw) + sum(b["size"] for b in blobs),
                layer_digests=tuple(layer["digest"] for layer in manifest["layers"]),
            )
            self._images[digest] = known
        return known

    def config(self, image: Image) -> ImageConfig:
        """Return what the image says about itself."""
        if image.id not in self._configs:
            self._configs[image.id] = parse_config(self.content.read(image.id))
        return self._configs[image.id]

    # -- layers

    def layers(self, image: Image) -> tuple[str, ...]:
        """Return the overlay's lower directories, top first; unpack what is not unpacked yet."""
        diff_ids = self.config(image).diff_ids
        pairs = zip(diff_ids, image.layer_digests, strict=True)
        directories = [self._layer(diff_id, digest) for diff_id, digest in pairs]
        return tuple(reversed(directories))

    def _layer(self, diff_id: str, digest: str) -> str:
        directory = f"{self._root}/layers/{diff_id.removeprefix('sha256:')}"
        if not os.path.isdir(directory):
            with self.lock():
                if not os.path.isdir(directory):
                    self._unpack(digest, directory)
        return f"{directory}/fs"

    def _unpack(self, digest: str, directory: str) -> None:
        parent, name = os.path.split(directory)
        temporary = f"{parent}/.{name}"
        shutil.rmtree(temporary, ignore_errors=True)  # of a kill half-way
        os.makedirs(f"{temporary}/fs", 0o755)
        os.chmod(f"{temporary}/fs", 0o755)  # noqa: S103 it will be a root directory
        try:
            with self.content.open(digest) as blob, decompressed(blob) as stream:
                unpack.apply(stream, f"{temporary}/fs")
            os.rename(temporary, directory)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    # -- change

    def put(
        self, config: dict[str, Any], layers: Sequence[Descriptor], tags: Sequence[str]
    ) -> Image:
        """Make an image of blobs that are here, under *tags* (references). The names move from older images."""
        body = json.dumps(config, sort_keys=True).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": self.content.put(body), "size": len(body)},
            "layers": [
                {"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}
                for layer in layers
            ],
        }
        text = json.dumps(manifest, sort_keys=True).encode()
        described = Descriptor(media_type=MANIFEST, digest=self.content.put(text), size=len(text))
        names = [reference.parse(tag).canonical() for tag in tags]
        with self.lock():
            kept = [e for e in self._tags.entries() if e.name not in names]
            self._tags.replace([*kept, *(Entry(name=n, manifest=described) for n in names)])
        return self._image(described.digest)

    def remove(self, name: str, *, in_use: Callable[[str], bool] = lambda _id: False) -> None:
        """Remove a tag, and with an image's last tag the image. Raises NotFound, FailedPrecondition."""
        image = self.resolve(name)
        if image is None:
            raise NotFound(f"no image {name}")
        wanted = reference.parse(name).canonical() if not name.startswith("sha256:") else ""
        gone = [t for t in image.tags if t == wanted] or list(image.tags)
        if len(gone) == len(image.tags) and in_use(image.id):
            raise FailedPrecondition(
                f"image {name} is in use by a container", hint="delete the pod first"
            )
        with self.lock():
            entries = [
                e
                for e in self._tags.entries()
                if not (e.manifest.digest == image.manifest and e.name in gone)
            ]
            self._tags.replace(entries)
            if not any(e.manifest.digest == image.manifest for e in entries):
                self._remove_blobs(image)

    def _remove_blobs(self, image: Image) -> None:
        """Remove what no other image needs."""
        others = self.list()
        shared = {d for o in others for d in o.layer_digests}
        shared_diffs = {d for o in others for d in self.config(o).diff_ids}
        for diff_id in set(self.config(image).diff_ids) - shared_diffs:
            shutil.rmtree(
                f"{self._root}/layers/{diff_id.removeprefix('sha256:')}", ignore_errors=True
            )
        for digest in set(image.layer_digests) - shared:
            self.content.delete(digest)
        self.content.delete(image.manifest)
        if not any(o.id == image.id for o in others):
            self.content.delete(image.id)
        self._images.pop(image.manifest, None)
        self._configs.pop(image.id, None)


@contextlib.contextmanager
def decompressed(blob: BinaryIO) -> Iterator[BinaryIO]:
    """Yield the archive inside: plain, or gzip. Raises ImageError for what minipod can't read."""
    magic = blob.read(4)
    blob.seek(0)
    if magic[:2] == b"\x1f\x8b":
        with gzip.open(blob) as stream:
            yield stream  # type: ignore[misc]  # a GzipFile reads like one
    elif magic == b"\x28\xb5\x2f\xfd":
        raise ImageError("zstd layers are not supported yet", reason="ErrImagePull")
    else:
        yield blob
