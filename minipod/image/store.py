"""The image store of one node: names to images, images to unpacked layers.

    <root>/blobs/sha256/...     every blob (content)
    <root>/index.json           names -> manifests (tags); with oci-layout this is an OCI image layout
    <root>/layers/<chain id>/   unpacked layers (snapshot)
    <root>/lock                 flock of whoever changes something

A pull fits in like a build does: write blobs into `content`, then `put` or `put_manifest`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from minipod.errors import FailedPrecondition, ImageError, NotFound
from minipod.image import reference, snapshot
from minipod.image.config import ImageConfig, parse_config
from minipod.image.content import ContentStore, Descriptor
from minipod.image.stream import LayerStream
from minipod.image.tags import Entry, TagDatabase

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = LAYER + "+gzip"
MIN_ID_DIGITS = 12  # of a short id; shorter ones are too likely to be names

InUse = Callable[[str], bool]  # whether a container is made from the image of this id


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of the store."""

    id: str  # digest of the config
    manifest: str  # digest of the manifest
    tags: tuple[str, ...]  # canonical: docker.io/library/busybox:1.36
    size: int  # bytes of its blobs
    layer_digests: tuple[str, ...]  # base first
    digests: tuple[str, ...] = ()  # name@digest for each repository, as its registry pins it


Images = list[Image]  # inside the class, `list` is the verb


def _unused(image_id: str) -> bool:
    del image_id
    return False


class ImageStore:
    """Synchronous; an event loop calls it in threads."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.content = ContentStore(root)
        self._layers = snapshot.Layers(root)
        self._tags = TagDatabase(root)
        self._images: dict[str, Image] = {}  # by manifest digest
        self._configs: dict[str, ImageConfig] = {}

    @contextlib.contextmanager
    def lock(self, name: str = "lock") -> Iterator[None]:
        """Be the only one, of all threads and processes, who changes the store. Not reentrant."""
        fd = os.open(f"{self._root}/{name}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    # -- look up

    def list(self) -> Images:
        """Return all images, in the order they came; those that lost their last tag too."""
        manifests = dict.fromkeys(e.manifest.digest for e in self._tags.entries())
        return [self._image(digest) for digest in manifests]

    def resolve(self, name: str) -> Image | None:
        """Find an image by reference, digest or (part of) its id; None: not here. Raises ImageError."""
        hexadecimal = name.removeprefix("sha256:")
        if len(hexadecimal) >= MIN_ID_DIGITS and set(hexadecimal) <= set("0123456789abcdef"):
            found = self._by_digits(hexadecimal)
            if found is not None or name != hexadecimal or len(hexadecimal) == 64:
                return found
        wanted = reference.parse(name)
        for entry in self._tags.entries():
            if wanted.digest:
                # The tag beside a digest says nothing: containerd and the kubelet ignore it.
                same = wanted.digest in (entry.manifest.digest, entry.target) and (
                    bool(entry.name) and reference.parse(entry.name).name == wanted.name
                )
            else:
                same = entry.name == wanted.canonical()
            if same:
                return self._image(entry.manifest.digest)
        return None

    def _by_digits(self, digits: str) -> Image | None:
        """Find by image id, or by a whole manifest digest. Raises ImageError when ambiguous."""
        images = self.list()
        found = [i for i in images if i.id.startswith(f"sha256:{digits}")]
        found = found or [i for i in images if i.manifest == f"sha256:{digits}"]
        if len({i.id for i in found}) > 1:
            raise ImageError(f"image id {digits} is ambiguous", reason="InvalidImageName")
        return found[0] if found else None

    def _image(self, digest: str) -> Image:
        named = [e for e in self._tags.entries() if e.manifest.digest == digest and e.name]
        tags = tuple(e.name for e in named)
        digests = tuple({f"{reference.parse(e.name).name}@{e.pin}": None for e in named})
        known = self._images.get(digest)
        if known is None or (known.tags, known.digests) != (tags, digests):
            raw = self.content.read(digest)
            config, layers = parse_manifest(raw)
            known = Image(
                id=config.digest,
                manifest=digest,
                tags=tags,
                size=len(raw) + config.size + sum(layer.size for layer in layers),
                layer_digests=tuple(layer.digest for layer in layers),
                digests=digests,
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
        chains = self._chains(image)
        if not all(self._layers.has(chain) for chain in chains):
            with self.lock():
                self._unpack(image, chains)
        return tuple(self._layers.path(chain) for chain in reversed(chains))

    def _chains(self, image: Image) -> tuple[str, ...]:
        return snapshot.chain_ids(self.config(image).diff_ids)

    def _unpack(self, image: Image, chains: Sequence[str]) -> None:
        diff_ids = self.config(image).diff_ids
        if len(diff_ids) != len(image.layer_digests):
            raise ImageError(
                f"image {image.id}: {len(image.layer_digests)} layers, {len(diff_ids)} diff ids",
                reason="ErrImagePull",
            )
        below: tuple[str, ...] = ()  # top first
        for chain, diff_id, digest in zip(chains, diff_ids, image.layer_digests, strict=True):
            if not self._layers.has(chain):
                with self.content.open(digest) as blob:
                    self._layers.add(chain, below, LayerStream(blob), diff_id)
            below = (self._layers.path(chain), *below)

    # -- change

    def put(
        self, config: dict[str, Any], layers: Sequence[Descriptor], tags: Sequence[str]
    ) -> Image:
        """Make an image of layers that are here, under *tags* (references)."""
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
        return self.put_manifest(json.dumps(manifest, sort_keys=True).encode(), tags)

    def put_manifest(
        self, manifest: bytes, tags: Sequence[str], *, media_type: str = MANIFEST, target: str = ""
    ) -> Image:
        """Make the image of *manifest*, whose blobs are here, under *tags*. Raises ImageError.

        *target*: the digest of the index through which the registry led to it, if one did.
        The names move from older images; one that loses its last name stays, nameless, until `prune`.
        """
        names = [reference.parse(tag).canonical() for tag in tags]
        with self.lock():
            config, layers = parse_manifest(manifest)
            for blob in (config, *layers):
                if self.content.size(blob.digest) != blob.size:
                    raise ImageError(f"blob {blob.digest} is missing", reason="ErrImagePull")
            described = Descriptor(
                media_type=media_type, digest=self.content.put(manifest), size=len(manifest)
            )
            self._write_tags(
                [Entry(name=n, manifest=described, target=target) for n in names]
                or [Entry(name="", manifest=described)]
            )
        return self._image(described.digest)

    def tag(self, name: str, *tags: str) -> Image:
        """Give the image that *name* resolves to more names. Raises NotFound, ImageError."""
        names = [reference.parse(tag).canonical() for tag in tags]
        with self.lock():
            image = self._require(name)
            entry = next(e for e in self._tags.entries() if e.manifest.digest == image.manifest)
            self._write_tags([Entry(name=n, manifest=entry.manifest) for n in names])
        return self._image(image.manifest)

    def remove(self, name: str, *, in_use: InUse = _unused) -> None:
        """Remove a tag, and with the last tag the image; by an id all tags.

        Raises NotFound, and FailedPrecondition when the image would go and a container needs it.
        """
        with self.lock():
            image = self._require(name)
            gone = _meant(name, image)
            left = [t for t in image.tags if t not in gone]
            if not left and in_use(image.id):
                raise FailedPrecondition(
                    f"image {name} is in use by a container", hint="delete the pod first"
                )
            self._tags.replace(
                [
                    e
                    for e in self._tags.entries()
                    if e.manifest.digest != image.manifest or e.name in left
                ]
            )
            if not left:
                self._remove_content(image)

    def prune(self, *, in_use: InUse = _unused) -> Images:
        """Remove the images that have no name and no container; return them."""
        with self.lock():
            gone = [i for i in self.list() if not i.tags and not in_use(i.id)]
            manifests = {i.manifest for i in gone}
            kept = [e for e in self._tags.entries() if e.manifest.digest not in manifests]
            self._tags.replace(kept)
            for image in gone:
                self._remove_content(image)
        return gone

    def _require(self, name: str) -> Image:
        image = self.resolve(name)
        if image is None:
            raise NotFound(f"no image {name}", hint="minipod image ls")
        return image

    def _write_tags(self, new: Sequence[Entry]) -> None:
        """Add *new*, taking their names from others, which stay as nameless entries if need be."""
        names = {e.name for e in new}
        old = self._tags.entries()
        entries = [*(e for e in old if e.name and e.name not in names), *(e for e in new if e.name)]
        named = {e.manifest.digest for e in entries}
        orphans = {e.manifest.digest: e.manifest for e in (*old, *new)}
        entries += [Entry(name="", manifest=m) for d, m in orphans.items() if d not in named]
        self._tags.replace(entries)

    def _remove_content(self, image: Image) -> None:
        """Remove what no other image needs; the image is not in the index any more."""
        others = self.list()
        shared_chains = {c for other in others for c in self._chains(other)}
        for chain in reversed(self._chains(image)):
            if chain not in shared_chains:
                self._layers.remove(chain)
        needed = {d for other in others for d in (*other.layer_digests, other.id)}
        for digest in {*image.layer_digests, image.id, image.manifest} - needed:
            self.content.delete(digest)
        self._images.pop(image.manifest, None)
        self._configs.pop(image.id, None)


def _meant(name: str, image: Image) -> tuple[str, ...]:
    """Return the tags of *image* that *name* stands for: itself, or all for an id or digest."""
    try:
        canonical = reference.parse(name).canonical()
    except ImageError:  # 64 bare digits are an id, never a name
        return image.tags
    return (canonical,) if canonical in image.tags else image.tags


def parse_manifest(text: bytes) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """Return the descriptors of config and layers (base first). Raises ImageError."""
    try:
        raw = json.loads(text)
        return _descriptor(raw["config"]), tuple(_descriptor(layer) for layer in raw["layers"])
    except (ValueError, KeyError, TypeError) as e:
        raise ImageError(f"image manifest is not valid: {e!r}", reason="ErrImagePull") from e


def _descriptor(raw: dict[str, Any]) -> Descriptor:
    return Descriptor(
        media_type=raw.get("mediaType", ""), digest=str(raw["digest"]), size=int(raw["size"])
    )
