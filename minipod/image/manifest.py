"""Image manifests of OCI (image-spec, manifest.md) and Docker (schema 2): the same shape, other media types.

What is not an image for a container (an artifact, an index, schema 1, an unknown kind of layer) is
refused here, before anything of it is fetched or unpacked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from minipod.errors import ImageError
from minipod.image.content import SMALL_MAX, Descriptor
from minipod.linux.flags import OVL_MAX_STACK

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
MANIFEST = OCI + "manifest.v1+json"
INDEX = OCI + "index.v1+json"
CONFIG = OCI + "config.v1+json"
LAYER = OCI + "layer.v1.tar"
LAYER_GZIP = LAYER + "+gzip"
DOCKER_MANIFEST = DOCKER + "distribution.manifest.v2+json"
DOCKER_INDEX = DOCKER + "distribution.manifest.list.v2+json"
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
INDEXES = (INDEX, DOCKER_INDEX)
CONFIGS = (CONFIG, DOCKER + "container.image.v1+json")
LAYERS = (
    *(LAYER + form for form in ("", "+gzip", "+zstd")),
    *(f"{OCI}layer.nondistributable.v1.tar{form}" for form in ("", "+gzip", "+zstd")),
    *(f"{DOCKER}image.rootfs.{kind}" for kind in ("diff.tar", "diff.tar.gzip", "diff.tar.zstd")),
    f"{DOCKER}image.rootfs.foreign.diff.tar.gzip",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an image is made of; *layers* base first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def parse_manifest(text: bytes) -> Manifest:
    """Decode and check a manifest. Raises ImageError."""
    if len(text) > SMALL_MAX:
        raise _wrong(f"{len(text)} bytes, more than {SMALL_MAX}")
    try:
        raw = json.loads(text)
        kind = raw.get("mediaType") or MANIFEST
        if kind not in MANIFESTS or raw.get("schemaVersion") != 2:
            raise _wrong(
                f"unsupported media type {kind!r}, schema version {raw.get('schemaVersion')}"
            )
        manifest = Manifest(
            config=descriptor(raw["config"]),
            layers=tuple(descriptor(layer) for layer in raw["layers"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise _wrong(repr(e)) from e
    if manifest.config.media_type not in CONFIGS:
        raise _wrong(f"its config is of type {manifest.config.media_type!r}: no container image")
    for layer in manifest.layers:
        if layer.media_type not in LAYERS:
            raise _wrong(f"unsupported media type {layer.media_type!r} of layer {layer.digest}")
    if len(manifest.layers) > OVL_MAX_STACK:
        raise _wrong(f"{len(manifest.layers)} layers, more than overlayfs takes: {OVL_MAX_STACK}")
    return manifest


def descriptor(raw: dict[str, Any]) -> Descriptor:
    """Decode one OCI descriptor. Raises ValueError, KeyError, TypeError."""
    size = raw["size"]
    if type(size) is not int or size < 0:
        raise ValueError(f"size {size!r} of {raw['digest']!r}")
    return Descriptor(
        media_type=str(raw.get("mediaType", "")), digest=str(raw["digest"]), size=size
    )


def plain(described: Descriptor) -> dict[str, object]:
    """Return the JSON form of a descriptor."""
    return {
        "mediaType": described.media_type,
        "digest": described.digest,
        "size": described.size,
    }


def _wrong(why: str) -> ImageError:
    return ImageError(f"image manifest is not valid: {why}", reason="ErrImagePull")
