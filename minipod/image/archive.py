"""Images as files: OCI layouts (directories), OCI archives and what `docker save` writes, in and out.

In: one pass over the archive, whose order is free. Every file becomes a blob of the content store, named by
what it holds, not by what the archive calls it; then index.json (OCI) or manifest.json (Docker) says
which of them are images. What turns out to belong to none is swept. All of it is read under
`ImageStore.writing`, so a kill leaves no image and nothing that a sweep does not find.

Out: one archive that both sides read, as Docker 25 and newer write it: an OCI layout with a manifest.json.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from minipod.errors import ImageError, NotFound
from minipod.image import reference
from minipod.image.content import Descriptor
from minipod.image.layer import EPOCH
from minipod.image.manifest import CONFIG, INDEX, INDEXES, LAYER, MANIFEST, descriptor, plain
from minipod.image.registry import index, platform
from minipod.image.store import Image, ImageStore
from minipod.image.stream import Chunks, compression, decompressed
from minipod.image.tags import REF_NAME
from minipod.image.tar import TarReader

CONTAINERD_NAME = "io.containerd.image.name"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(slots=True)
class _Files:
    """What an archive holds: digests of its files and its links, by normalised name."""

    digests: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def digest(self, name: str) -> str:
        """Return the digest of the file of this name, or of what it links to. Raises ImageError."""
        name = os.path.normpath(name)
        name = self.links.get(name, name)  # docker save links a layer that two images share, once
        if name not in self.digests:
            raise _broken(f"it has no file {name!r}")
        return self.digests[name]


def load(store: ImageStore, source: BinaryIO | str, *, base: str = "") -> list[Image]:
    """Take in all images of an archive (a stream) or of an OCI layout (a directory's path).

    *base* is the repository for images that have but a tag in there. Raises ImageError.
    """
    try:
        with store.writing():
            found = _read(store, source)
            if "index.json" in found.digests:
                return _from_index(store, found, base)
            if "manifest.json" in found.digests:
                return _from_docker(store, found)
            raise _broken("it has neither index.json (OCI) nor manifest.json (docker save)")
    finally:
        store.sweep()  # what belongs to no image, or to one that was refused


def _read(store: ImageStore, source: BinaryIO | str) -> _Files:
    if isinstance(source, str):
        return _take(store, _walk(source), _Files())
    return _from_tar(store, source)


def _broken(why: str) -> ImageError:
    return ImageError(f"not an image archive: {why}", reason="ErrImagePull")


def _walk(directory: str) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yield the files of an OCI layout. Follows no symlink."""
    names = ["index.json"]
    if os.path.isdir(f"{directory}/blobs/sha256"):
        names += [f"blobs/sha256/{n}" for n in sorted(os.listdir(f"{directory}/blobs/sha256"))]
    for name in names:
        try:
            fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError as e:
            raise _broken(f"{directory} has no {name}") from e
        with os.fdopen(fd, "rb") as file:
            yield name, iter(lambda: file.read(1 << 20), b"")


def _from_tar(store: ImageStore, source: BinaryIO) -> _Files:
    found = _Files()
    reader = TarReader(Chunks(source))

    def members() -> Iterator[tuple[str, Iterable[memoryview]]]:
        for entry in reader:
            name = os.path.normpath(entry.name)
            if entry.type == "0":
                yield name, reader.chunks()
            elif entry.type in "12":
                start = os.path.dirname(name) if entry.type == "2" else ""
                found.links[name] = os.path.normpath(os.path.join(start, entry.linkname))

    return _take(store, members(), found)


def _take(
    store: ImageStore, members: Iterable[tuple[str, Iterable[bytes | memoryview]]], found: _Files
) -> _Files:
    for name, chunks in members:
        with store.content.writer() as blob:
            for chunk in chunks:
                blob.write(chunk)
            found.digests[name] = blob.commit()
    return found


def _json(store: ImageStore, digest: str) -> Any:
    try:
        return json.loads(store.content.read(digest))
    except (ValueError, RecursionError) as e:
        raise _broken(f"{digest} is no JSON: {e}") from e


def _from_index(store: ImageStore, found: _Files, base: str) -> list[Image]:
    """Make the images of an OCI layout's index.json; of a nested index our platform's."""
    images = []
    try:
        for raw in _json(store, found.digest("index.json"))["manifests"]:
            described, target = descriptor(raw), ""
            if described.media_type in INDEXES:
                target = described.digest
                body = store.content.read(target)
                described = index.choose(body, platform.of_machine())
            manifest = store.content.read(described.digest)
            names = _names(raw.get("annotations") or {}, base)
            images.append(
                store.put_manifest(manifest, names, media_type=described.media_type, target=target)
            )
    except (KeyError, ValueError, TypeError, AttributeError) as e:
        raise _broken(f"index.json: {e!r}") from e
    return images


def _names(annotations: dict[str, str], base: str) -> list[str]:
    """Return the name of a layout's image: a whole reference, or *base* with a bare tag."""
    name = annotations.get(CONTAINERD_NAME) or annotations.get(REF_NAME, "")
    if name and ":" not in name and "/" not in name:
        name = f"{base}:{name}" if base else ""
    return [name] if name else []


def _from_docker(store: ImageStore, found: _Files) -> list[Image]:
    """Make the images that manifest.json of `docker save` lists."""
    images = []
    try:
        for raw in _json(store, found.digest("manifest.json")):
            config = _described(store, found.digest(raw["Config"]), CONFIG)
            layers = [_described(store, found.digest(path), LAYER) for path in raw["Layers"]]
            images.append(store.put_manifest(_manifest(config, layers), raw.get("RepoTags") or []))
    except (KeyError, ValueError, TypeError, AttributeError) as e:
        raise _broken(f"manifest.json: {e!r}") from e
    return images


def _described(store: ImageStore, digest: str, media_type: str) -> Descriptor:
    """Return the descriptor of a blob; a layer's compression is seen by its first bytes."""
    if media_type == LAYER:
        with store.content.open(digest) as blob:
            media_type += compression(blob.read(4))
    size = store.content.size(digest) or 0
    return Descriptor(media_type=media_type, digest=digest, size=size)


def _manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": plain(config),
        "layers": [plain(layer) for layer in layers],
    }
    return json.dumps(manifest, sort_keys=True).encode()


def import_tree(
    store: ImageStore, source: BinaryIO, names: Sequence[str], config: dict[str, Any]
) -> Image:
    """Make an image of one layer from the archive of a root file system, plain or compressed."""
    try:
        with store.writing():
            with store.content.writer() as blob:
                while data := source.read(1 << 20):
                    blob.write(data)
                if not blob.offset:
                    raise _broken("it is empty")
                digest = blob.commit()
            with store.content.open(digest) as packed:
                diff_id = _diff_id(packed)
            whole = {
                "architecture": platform.of_machine().architecture,
                "os": "linux",
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            }
            return store.put(whole, [_described(store, digest, LAYER)], names)
    finally:
        store.sweep()


def _diff_id(blob: BinaryIO) -> str:
    import hashlib

    found = hashlib.sha256()
    for chunk in decompressed(blob):
        found.update(chunk)
    return f"sha256:{found.hexdigest()}"


# -- out


def save(store: ImageStore, names: Sequence[str], out: BinaryIO) -> None:
    """Write the images as one archive, for `docker load`, `skopeo copy oci-archive:` and ourselves.

    The same images give the same bytes. Raises NotFound, ImageError.
    """
    with store.writing(), tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, data in _members(store, names):
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = EPOCH, 0o644
            if isinstance(data, bytes):
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            else:
                with store.content.open(data.digest) as blob:
                    info.size = data.size
                    tar.addfile(info, blob)


def save_layout(store: ImageStore, names: Sequence[str], directory: str) -> None:
    """Write the images as an OCI layout, a directory. Raises NotFound, ImageError, OSError."""
    import shutil

    os.makedirs(f"{directory}/blobs/sha256", exist_ok=True)
    with store.writing():
        for name, data in _members(store, names):
            if name == "manifest.json":
                continue
            with open(f"{directory}/{name}", "wb") as file:
                if isinstance(data, bytes):
                    file.write(data)
                else:
                    with store.content.open(data.digest) as blob:
                        shutil.copyfileobj(blob, file, 1 << 20)


def _members(store: ImageStore, names: Sequence[str]) -> Iterator[tuple[str, bytes | Descriptor]]:
    """Yield the files of an OCI layout that is also an archive of docker save: a text, or a blob."""
    images: dict[str, Image] = {}  # by manifest digest
    tags: dict[str, list[str]] = {}
    for name in names:
        image = store.resolve(name)
        if image is None:
            raise NotFound(f"no image {name}", hint="minipod image ls")
        images[image.manifest] = image
        tags.setdefault(image.manifest, []).extend(_saved_names(name, image))
    blobs: dict[str, Descriptor] = {}
    entries, docker = [], []
    for digest, image in images.items():
        described, manifest = store.descriptor(image), store.manifest(image)
        blobs |= {d.digest: d for d in (*manifest.layers, manifest.config, described)}
        named = list(dict.fromkeys(tags[digest]))
        for tag in named or [""]:
            annotations = {CONTAINERD_NAME: tag, REF_NAME: tag} if tag else {}
            entries.append(plain(described) | {"annotations": annotations})
        docker.append(
            {
                "Config": _place(manifest.config),
                "RepoTags": [reference.parse(tag).familiar() for tag in named],
                "Layers": [_place(layer) for layer in manifest.layers],
            }
        )
    yield "oci-layout", LAYOUT
    yield from ((_place(blob), blob) for _, blob in sorted(blobs.items()))
    listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    yield "index.json", json.dumps(listed).encode()
    yield "manifest.json", json.dumps(docker).encode()


def _saved_names(name: str, image: Image) -> list[str]:
    """Return the one tag that was asked for; by an id, all that the image has."""
    try:
        canonical = reference.parse(name).canonical()
    except ImageError:  # 64 bare digits
        return list(image.tags)
    return [canonical] if canonical in image.tags else list(image.tags)


def _place(blob: Descriptor) -> str:
    return f"blobs/sha256/{blob.digest[7:]}"
