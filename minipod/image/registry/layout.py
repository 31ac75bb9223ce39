"""A directory of OCI image layouts as a place to pull from: for machines without network.

    [host."oci:/srv/images"]     of hosts.toml

    /srv/images/docker.io/library/nginx/   the layout of docker.io/library/nginx, or
    /srv/images/library/nginx/             without the registry, or
    /srv/images/                           one layout for all

`skopeo copy docker://nginx:1.27 oci:/srv/images/library/nginx:1.27` makes one. A tag is found by the index's
annotation org.opencontainers.image.ref.name: the tag alone, the full or the short name of the image.
Source: image-spec, image-layout.md. What is read is verified like a registry's answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any, BinaryIO

from minipod.image.content import SMALL_MAX, digest_of
from minipod.image.reference import Reference
from minipod.image.registry.http import RequestFailed
from minipod.image.registry.source import Fetched, Part

REF_NAME = "org.opencontainers.image.ref.name"
CHUNK = 1 << 20  # bytes read at once


class Layout:
    """A `Source`; *directory* is that of hosts.toml."""

    def __init__(self, directory: str, *, resolves: bool = True) -> None:
        self.name = f"oci:{directory}"
        self.resolves = resolves
        self.is_server = False
        self._directory = directory

    def _layouts(self, image: Reference) -> Iterator[str]:
        for below in (f"{image.domain}/{image.path}", image.path, ""):
            found = os.path.join(self._directory, below)
            if os.path.exists(os.path.join(found, "oci-layout")):
                yield found

    async def digest(self, image: Reference, attempts: int) -> str:
        del attempts
        return await asyncio.to_thread(self._find, image)

    def _find(self, image: Reference) -> str:
        names = {image.tag, image.canonical(), image.familiar()}
        for layout in self._layouts(image):
            path = os.path.join(layout, "index.json")
            try:
                with open(path, "rb") as file:
                    listed = json.loads(file.read(SMALL_MAX + 1))["manifests"]
                found = [m for m in listed if _name(m) in names]
                found = found or (listed if len(listed) == 1 and not _name(listed[0]) else [])
                if found:
                    return str(found[-1]["digest"])
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
                raise RequestFailed(f"{path} is not a valid index: {e}") from e
        raise RequestFailed(f"not found: no {image.tag!r} in {self._directory}", status=404)

    async def manifest(self, image: Reference, digest: str, attempts: int) -> Fetched:
        digest = digest or await self.digest(image, attempts)

        def read() -> bytes:
            with self._open(image, digest) as file:
                return file.read(SMALL_MAX + 1)

        body = await asyncio.to_thread(read)
        if len(body) > SMALL_MAX:
            raise RequestFailed(f"manifest is larger than {SMALL_MAX} bytes")
        if digest_of(body) != digest:
            raise RequestFailed(f"{self.name}: {digest} is damaged")
        return Fetched(body=body, media_type="", digest=digest)

    @contextlib.asynccontextmanager
    async def blob(self, image: Reference, digest: str, offset: int) -> AsyncIterator[Part]:
        with self._open(image, digest) as file:
            file.seek(offset)
            yield Part(offset=offset, chunks=_chunks(file))

    def _open(self, image: Reference, digest: str) -> BinaryIO:
        algorithm, _, value = digest.partition(":")
        if not value.isalnum() or not algorithm.isalnum():
            raise RequestFailed(f"not a digest: {digest!r}")
        for layout in self._layouts(image):
            with contextlib.suppress(FileNotFoundError):
                return open(os.path.join(layout, "blobs", algorithm, value), "rb")
        raise RequestFailed(f"not found: {digest} in {self._directory}", status=404)


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    while data := await asyncio.to_thread(file.read, CHUNK):
        yield data


def _name(manifest: Any) -> str:
    return str((manifest.get("annotations") or {}).get(REF_NAME, ""))
