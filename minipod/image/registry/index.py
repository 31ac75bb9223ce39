"""What a registry's answer is, a manifest or an index of several, and which of several is ours. Pure.

Everything here comes from outside: each field is checked before it is used. Manifests themselves are read by
minipod.image.manifest. Sources: image-spec, image-index.md; distribution/docs/spec/manifest-v2-2.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from minipod.errors import ImageError
from minipod.image.content import Descriptor
from minipod.image.manifest import INDEX, INDEXES, MANIFEST, MANIFESTS, descriptor
from minipod.image.registry import platform
from minipod.image.registry.platform import Platform

SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"  # with and without +prettyjws
ACCEPT = ", ".join((*MANIFESTS, *INDEXES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One line of an index; *platform* is None where it says nothing."""

    descriptor: Descriptor
    platform: Platform | None


def media_type(body: bytes, content_type: str) -> str:
    """Return which of MANIFESTS and INDEXES *body* is. Raises ImageError."""
    raw = _object(body)
    said = raw.get("mediaType") or content_type.partition(";")[0].strip()
    if raw.get("schemaVersion") == 1 or str(said).startswith(SCHEMA_1):
        raise refuse(
            "manifest has Docker's schema 1, which is not supported",
            hint="push the image again with a client of this decade",
        )
    if "layers" in raw and "manifests" in raw:  # CVE-2021-41190: two readings of one digest
        raise refuse("manifest has both layers and manifests")
    if said in (*MANIFESTS, *INDEXES):
        return str(said)
    # A registry that says application/json, or nothing: look at the content.
    return INDEX if "manifests" in raw else MANIFEST


def choose(body: bytes, wanted: Platform) -> Descriptor:
    """Return the manifest for *wanted* of an index; one without a platform counts when none fits. Raises ImageError."""
    candidates = _candidates(body)
    ranked = [
        (fit, -position, candidate.descriptor)
        for position, candidate in enumerate(candidates)
        if candidate.platform is not None
        and (fit := platform.rank(wanted, candidate.platform)) is not None
    ]
    if ranked:
        return max(ranked, key=lambda entry: entry[:2])[2]
    unlabelled = [c.descriptor for c in candidates if c.platform is None]
    if unlabelled:
        return unlabelled[0]
    offered = sorted({str(c.platform) for c in candidates} - {"unknown/unknown"})
    raise refuse(
        f"no match for platform {wanted} in manifest",
        hint=f"there is: {', '.join(offered) or 'nothing'}",
    )


def _candidates(body: bytes) -> list[Candidate]:
    try:
        return [_candidate(m) for m in _object(body)["manifests"]]
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise refuse(f"image index is not valid: {e!r}") from e


def _candidate(raw: dict[str, Any]) -> Candidate:
    found, given = raw.get("platform"), None
    if found:
        given = Platform(
            os=str(found["os"]),
            architecture=str(found["architecture"]),
            variant=str(found.get("variant") or ""),
        )
    return Candidate(descriptor=descriptor(raw), platform=given)


def _object(body: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise refuse(f"manifest is not valid: {e}") from e
    if not isinstance(raw, dict):
        raise refuse("manifest is not valid: not an object")
    return raw


def refuse(message: str, *, hint: str = "") -> ImageError:
    """Return the error for what a registry gave and we do not take."""
    return ImageError(message, reason="ErrImagePull", hint=hint)
