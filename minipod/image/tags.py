"""Which names lead to which manifest: index.json of the OCI image layout, replaced as a whole.

One descriptor per name (annotation `org.opencontainers.image.ref.name`, a canonical reference). Where a
registry's name led to an index of several platforms, a second annotation keeps the digest of that index:
it is what the name is pinned by (`repo@sha256:...`), while the descriptor is our platform's manifest. A
manifest that lost its last name stays as a descriptor without one until it is pruned: a container may
still run from it. Writers hold the store's lock; readers see the old file or the new one.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from minipod.errors import ImageError
from minipod.image.content import Descriptor
from minipod.image.manifest import descriptor, plain

REF_NAME = "org.opencontainers.image.ref.name"
TARGET = "org.minipod.image.target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the index: *name* is "" for a manifest without a name."""

    name: str
    manifest: Descriptor
    target: str = ""  # digest that the registry gives for the name, where it is not the manifest's

    @property
    def pin(self) -> str:
        """The digest that names this image in a registry."""
        return self.target or self.manifest.digest


class TagDatabase:
    """The index.json of *root*, cached until the file is another one."""

    def __init__(self, root: str) -> None:
        self._path = os.path.join(root, "index.json")
        self._cached: tuple[tuple[int, int, int], tuple[Entry, ...]] | None = None

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries, in the order they were made. One stat when nothing has changed."""
        try:
            stat = os.stat(self._path)
        except FileNotFoundError:
            return ()
        key = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        cached = self._cached
        if cached is None or cached[0] != key:
            cached = (key, self._load())
            self._cached = cached
        return cached[1]

    def _load(self) -> tuple[Entry, ...]:
        try:
            with open(self._path, "rb") as file:
                manifests = json.load(file)["manifests"]
            return tuple(_entry(raw) for raw in manifests)
        except (ValueError, KeyError, TypeError) as e:
            raise ImageError(f"{self._path} is damaged: {e}", reason="ImageInspectError") from e

    def replace(self, entries: list[Entry]) -> None:
        """Write all *entries*; the caller holds the store's lock."""
        index = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [_plain(entry) for entry in entries],
        }
        new = self._path + ".new"  # one name is enough under the lock
        with open(new, "w", encoding="utf-8") as file:
            json.dump(index, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, self._path)


def _entry(raw: dict[str, Any]) -> Entry:
    annotations = raw.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise TypeError("annotations are not an object")
    return Entry(
        name=annotations.get(REF_NAME, ""),
        manifest=descriptor(raw),
        target=annotations.get(TARGET, ""),
    )


def _plain(entry: Entry) -> dict[str, object]:
    annotations = {REF_NAME: entry.name, TARGET: entry.target}
    filled = {key: value for key, value in annotations.items() if value}
    return {**plain(entry.manifest), **({"annotations": filled} if filled else {})}
