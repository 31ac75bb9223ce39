"""The image store of one node: names to images, images to unpacked layers.

    <root>/blobs/sha256/...     every blob (content)
    <root>/index.json           names -> manifests (tags); with oci-layout this is an OCI image layout
    <root>/layers/<chain id>/   unpacked layers (snapshot)
    <root>/lock                 flock of whoever changes names
    <root>/in-use               shared flock of whoever brings in what no name leads to yet

Mark and sweep: to remove an image is to remove its names; `sweep` then removes what no name leads to,
also what a killed build or pull left. It needs the store to itself: while something is on its way in
(`writing`), it leaves the work to a later one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from minipod.errors import FailedPrecondition, ImageError, NotFound
from minipod.image import limits, reference, snapshot
from minipod.image.config import ImageConfig, parse_config
from minipod.image.content import PARTIAL_AGE, ContentStore, Descriptor
from minipod.image.limits import DEFAULT, Limits
from minipod.image.manifest import CONFIG, MANIFEST, Manifest, parse_manifest, plain
from minipod.image.tags import Entry, TagDatabase

if TYPE_CHECKING:
    from minipod.image.ingest import Ingest
    from minipod.spec.instance import Instance

MIN_ID_DIGITS = 12  # of a short id; shorter ones are too likely to be names

InUse = Callable[
    [], Collection[str]
]  # the ids of images that containers need; asked under the lock


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of the store."""

    id: str  # digest of the config
    manifest: str  # digest of the manifest
    tags: tuple[str, ...]  # canonical: docker.io/library/busybox:1.36
    digests: tuple[str, ...]  # name@digest, as its registry knows it
    size: int  # bytes of its blobs
    layer_digests: tuple[str, ...]  # base first


Images = list[Image]  # inside the class, `list` is the verb


class ImageStore:
    """Synchronous; an event loop calls it in threads."""

    def __init__(self, root: str, bounds: Limits = DEFAULT) -> None:
        self.root = root
        self.content = ContentStore(root)
        self.limits = bounds
        self._layers = snapshot.Layers(root, bounds)
        self._tags = TagDatabase(root)
        self._manifests: dict[str, Manifest] = {}  # by digest
        self._configs: dict[str, ImageConfig] = {}
        # By name, among these entries.
        self._found: tuple[tuple[Entry, ...], dict[str, Image]] = ((), {})

    @contextlib.contextmanager
    def lock(self, name: str = "lock") -> Iterator[None]:
        """Be the only one, of all threads and processes, who changes the store. Not reentrant."""
        fd = os.open(f"{self.root}/{name}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keep `sweep` away from what is on its way in. Any number may be here at once."""
        with self._in_use(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def _in_use(self, how: int) -> Iterator[None]:
        fd = os.open(f"{self.root}/in-use", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, how)
            yield
        finally:
            os.close(fd)

    def hold(self, ids: Collection[str], *, wait: bool = True) -> bool:
        """Make sure that the images *ids*, which a container's record names by now, are still here. Raises ImageError.

        Behind the lock, so that whoever did not see the record yet is through with removing them, and whoever comes
        later sees it (`InUse`). False: the lock is taken, and the caller does not want to *wait*.
        """
        fd = os.open(f"{self.root}/lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | (0 if wait else fcntl.LOCK_NB))
            entries = self._tags.entries()
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
        here = {self._manifest(e.manifest.digest).config.digest for e in entries}
        if gone := set(ids) - here:
            raise ImageError(f"image {min(gone)} was removed", reason="CreateContainerError")
        return True

    # -- look up

    def list(self) -> Images:
        """Return all images, in the order they came; those that lost their last tag too."""
        manifests = dict.fromkeys(e.manifest.digest for e in self._tags.entries())
        return [self._image(digest) for digest in manifests]

    def resolve(self, name: str) -> Image | None:
        """Find an image by reference, digest or (part of) its id; None: not here. Raises ImageError."""
        entries, found = self._found
        if entries is not (now := self._tags.entries()):
            found = {}
            self._found = now, found
        if (image := found.get(name)) is None and (image := self._resolve(name)) is not None:
            found[name] = image
        return image

    def _resolve(self, name: str) -> Image | None:
        hexadecimal = name.removeprefix("sha256:")
        if len(hexadecimal) >= MIN_ID_DIGITS and set(hexadecimal) <= set("0123456789abcdef"):
            found = self._by_digits(hexadecimal)
            if found is not None or name != hexadecimal or len(hexadecimal) == 64:
                return found
        wanted = reference.parse(name)
        for entry in self._tags.entries():
            if wanted.digest:
                # The tag beside a digest says nothing: containerd and the kubelet ignore it.
                same = wanted.digest in (entry.manifest.digest, entry.pin) and (
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
        entries = [e for e in self._tags.entries() if e.manifest.digest == digest and e.name]
        names = [(reference.parse(e.name), e) for e in entries]
        manifest = self._manifest(digest)
        return Image(
            id=manifest.config.digest,
            manifest=digest,
            tags=tuple(e.name for name, e in names if not name.digest),
            digests=tuple(dict.fromkeys(f"{name.name}@{e.pin}" for name, e in names)),
            size=manifest.config.size + sum(layer.size for layer in manifest.layers),
            layer_digests=tuple(layer.digest for layer in manifest.layers),
        )

    def _manifest(self, digest: str) -> Manifest:
        known = self._manifests.get(digest)
        if known is None:
            known = self._manifests[digest] = parse_manifest(self.content.read(digest))
        return known

    def descriptor(self, image: Image) -> Descriptor:
        """Return the descriptor of the image's manifest."""
        entries = self._tags.entries()
        return next(e.manifest for e in entries if e.manifest.digest == image.manifest)

    def raw_config(self, image: Image) -> dict[str, Any]:
        """Return the image's configuration as it is written."""
        raw: dict[str, Any] = json.loads(self.content.read(image.id))
        return raw

    def manifest(self, image: Image) -> Manifest:
        """Return the descriptors of config and layers."""
        return self._manifest(image.manifest)

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
            with self.writing():
                self._unpack(image.layer_digests, self.config(image).diff_ids)
        return tuple(self._layers.path(chain) for chain in reversed(chains))

    def _chains(self, image: Image) -> tuple[str, ...]:
        return snapshot.chain_ids(self.config(image).diff_ids)

    def _unpack(self, digests: Sequence[str], diff_ids: Sequence[str]) -> None:
        """Unpack layers of blobs that are here. Raises ImageError."""
        if len(diff_ids) != len(digests):
            raise ImageError(
                f"image is not valid: {len(digests)} layers, {len(diff_ids)} diff ids",
                reason="ErrImagePull",
            )
        from minipod.image.stream import LayerStream  # only who unpacks needs it

        limit = self._layers.limits.image_layer_max
        self._layers.unpack(
            diff_ids, digests, lambda digest: LayerStream(self.content.open(digest), limit=limit)
        )

    def scratch(self, image: Image | None) -> contextlib.AbstractContextManager[tuple[int, str]]:
        """Yield a root that can be written over an image's, and its changes; see snapshot.Layers.scratch."""
        return self._layers.scratch(self.layers(image) if image else ())

    def settle(self) -> None:
        """Wait until the disk has all layers that were unpacked; see `snapshot`."""
        self._layers.settle()

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
            "layers": [plain(layer) for layer in layers],
        }
        return self.put_manifest(json.dumps(manifest, sort_keys=True).encode(), tags)

    @contextlib.contextmanager
    def ingest(
        self, manifest: bytes, config: bytes, *, media_type: str = MANIFEST, target: str = ""
    ) -> Iterator[Ingest[Image]]:
        """Take an image in whose layers are to come; see minipod.image.ingest. Raises ImageError.

        *target*: digest of the index through which the registry led to the manifest, if one did.
        """
        from minipod.image.ingest import Ingest  # as in `_unpack`

        def publish(names: Sequence[str]) -> Image:
            return self.put_manifest(manifest, names, media_type=media_type, target=target)

        ingest = None
        try:
            with self.writing():
                made = Ingest(self.content, self._layers, manifest, config, publish=publish)
                with made as ingest:
                    yield ingest
        finally:
            if ingest is None or ingest.refused:
                self.sweep()  # not after a failed download: a second try goes on with what is here

    def put_manifest(
        self, manifest: bytes, tags: Sequence[str], *, media_type: str = MANIFEST, target: str = ""
    ) -> Image:
        """Unpack the image of *manifest*, whose blobs are here, then name it by *tags*. Raises ImageError.

        *target*: the digest of the index through which the registry led to it, if one did.
        The names move from older images; one that loses its last name stays, nameless, until it is dropped.
        """
        names = [reference.parse(tag).canonical() for tag in tags]
        parsed = parse_manifest(manifest)
        for blob in (parsed.config, *parsed.layers):
            if self.content.size(blob.digest) != blob.size:
                raise ImageError(f"blob {blob.digest} is missing", reason="ErrImagePull")
        config = parse_config(self.content.read(parsed.config.digest))
        with self.writing():
            self._unpack([layer.digest for layer in parsed.layers], config.diff_ids)
            described = Descriptor(
                media_type=media_type, digest=self.content.put(manifest), size=len(manifest)
            )
            entries = [Entry(name=n, manifest=described, target=target) for n in names or [""]]
            with self.lock():
                self._write_tags(entries)
        return self._image(described.digest)

    def tag(self, name: str, *tags: str) -> Image:
        """Give the image that *name* resolves to more names. Raises NotFound, ImageError."""
        names = [reference.parse(tag).canonical() for tag in tags]
        with self.lock():
            image = self._require(name)
            entry = next(e for e in self._tags.entries() if e.manifest.digest == image.manifest)
            self._write_tags([replace(entry, name=n) for n in names])
        return self._image(image.manifest)

    def remove(self, name: str, *, in_use: InUse = tuple) -> None:
        """Remove a name, and with the last one the image; by an id all names.

        Raises NotFound, and FailedPrecondition when the image would go and a container needs it.
        """
        with self.lock():
            image = self._require(name)
            entries = self._tags.entries()
            mine = [e for e in entries if e.manifest.digest == image.manifest]
            gone = _meant(name, mine)
            if len(gone) == len(mine) and image.id in in_use():
                raise FailedPrecondition(
                    f"image {name} is in use by a container", hint="delete the pod first"
                )
            self._tags.replace([e for e in entries if e not in gone])
        self.sweep()

    def drop(self, ids: Collection[str], *, in_use: InUse = tuple) -> Images:
        """Remove the images with these *ids*, with all names, but for those in use; return them."""
        with self.lock():
            used = in_use()
            gone = [i for i in self.list() if i.id in ids and i.id not in used]
            manifests = {i.manifest for i in gone}
            entries = self._tags.entries()
            self._tags.replace([e for e in entries if e.manifest.digest not in manifests])
        self.sweep()
        return gone

    def sweep(self, *, older: float = 0.0, partials: float = PARTIAL_AGE) -> bool:
        """Remove what no name leads to; return False when something is on its way in: try again later.

        *older*: seconds that it must have been here: the layers of a pull that is tried again are of use; *partials*: the
        same for blobs that are not complete.
        """
        try:
            with self._in_use(fcntl.LOCK_EX | fcntl.LOCK_NB), self.lock():
                images = self.list()
                self._layers.sweep([c for i in images for c in self._chains(i)], older=older)
                kept = {d for i in images for d in (*i.layer_digests, i.id, i.manifest)}
                for digest in set(self.content.digests(older=older)) - kept:
                    self.content.delete(digest)
                    self._manifests.pop(digest, None)
                    self._configs.pop(digest, None)
                self.content.sweep_partials(older=partials)
        except BlockingIOError:
            return False
        return True

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
        orphans = {e.manifest.digest: replace(e, name="") for e in (*old, *new)}
        entries += [e for d, e in orphans.items() if d not in named]
        self._tags.replace(entries)


def _meant(name: str, entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return those of an image's *entries* that *name* stands for: one, or all for an id or digest."""
    try:
        canonical = reference.parse(name).canonical()
    except ImageError:  # 64 bare digits are an id, never a name
        return entries
    return [e for e in entries if e.name == canonical] or entries


def of_node(instance: Instance) -> ImageStore:
    """Open the store of a node, making it where it is missing."""
    os.makedirs(instance.state_dir, 0o700, exist_ok=True)
    return ImageStore(f"{instance.state_dir}/images", limits.of_node(instance))
