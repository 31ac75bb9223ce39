"""A push: each blob that the registry does not have, then the manifest under its name.

    HEAD blob -> there | POST uploads?mount=&from= -> mounted | PUT location?digest= with the bytes

A blob that another repository of the same registry has is mounted, not sent: the image's other names
say which repository that may be. Source: distribution-spec, "Pushing Blobs", "Mounting a blob".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import BinaryIO
from urllib.parse import urljoin

from minipod.errors import ImageError, NotFound
from minipod.image import reference
from minipod.image.content import Descriptor
from minipod.image.reference import Reference
from minipod.image.registry import hosts, index, progress
from minipod.image.registry.http import Http, RequestFailed, retrying
from minipod.image.registry.progress import LayerProgress, Tell
from minipod.image.registry.remote import Remote
from minipod.image.store import Image, ImageStore
from minipod.spec.registry import ANONYMOUS, AuthConfig

AT_ONCE = 4
CHUNK = 1 << 20  # bytes read from the disk at once


class Pusher:
    """Pushes from *store*; *directory* is that of the hosts.toml files."""

    def __init__(self, store: ImageStore, directory: str = hosts.DEFAULT_DIRECTORY) -> None:
        self._store = store
        self._directory = directory

    async def push(
        self, name: str, auth: AuthConfig = ANONYMOUS, *, tell: Tell = progress.quiet
    ) -> str:
        """Push the image under *name*; return the manifest's digest. Raises NotFound, ImageError."""
        parsed = reference.parse(name)
        image = self._store.resolve(name)
        if image is None:
            raise NotFound(f"no image {name}", hint="minipod image ls")
        try:
            async with Http() as http:
                return await self._first(parsed, image, auth, http, tell)
        except ImageError as e:
            message = f'failed to push image "{parsed.canonical()}": {e.message}'
            raise ImageError(message, reason=e.reason, hint=e.hint) from e

    async def _first(
        self, name: Reference, image: Image, auth: AuthConfig, http: Http, tell: Tell
    ) -> str:
        """Push to the registry itself: the first endpoint that answers (a loopback one may have two)."""
        found = hosts.endpoints(self._directory, name.domain, "push")
        found = tuple(e for e in found if not e.layout)
        failures: list[RequestFailed] = []
        for endpoint in [e for e in found if e.is_server] or found:
            remote = Remote(http, endpoint, auth, f"repository:{name.path}:pull,push")
            try:
                return await _Push(self._store, remote, name, image, tell).run()
            except RequestFailed as e:
                failures.append(e)
                if e.answered:
                    break
        if not failures:
            raise index.refuse(f"no host of {name.domain} has the capability to push")
        raise max(failures, key=lambda e: bool(e.status))


class _Push:
    """One image to one endpoint."""

    def __init__(
        self, store: ImageStore, remote: Remote, name: Reference, image: Image, tell: Tell
    ) -> None:
        self._content = store.content
        self._remote = remote
        self._name = name
        self._image = image
        self._manifest = store.manifest(image)
        self._tell = tell

    async def run(self) -> str:
        limit = asyncio.Semaphore(AT_ONCE)
        blobs = {b.digest: b for b in (*self._manifest.layers, self._manifest.config)}

        async def one(blob: Descriptor) -> None:
            async with limit:
                await retrying(lambda: self._blob(blob))

        try:
            async with asyncio.TaskGroup() as group:
                for blob in blobs.values():
                    group.create_task(one(blob))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        await retrying(self._put_manifest)
        return self._image.manifest

    async def _blob(self, blob: Descriptor) -> None:
        path = f"{self._name.path}/blobs"
        url = self._remote.url(f"{path}/{blob.digest}")
        async with self._remote.request("HEAD", url, ok=(200, 404)) as answer:
            if answer.status == 200:
                self._say(blob, progress.ON_REMOTE, blob.size)
                return
        query = {"mount": blob.digest, "from": other} if (other := self._other()) else {}
        url = self._remote.url(f"{path}/uploads/", **query)
        async with self._remote.request("POST", url, ok=(201, 202)) as answer:
            if answer.status == 201:
                self._say(blob, progress.MOUNTED, blob.size)
                return
            location = urljoin(str(answer.url), answer.headers.get("Location", ""))
        await self._upload(blob, location)
        self._say(blob, progress.PUSHED, blob.size)

    def _other(self) -> str:
        """Return another repository of this registry that may have the blobs, or ""."""
        names: Sequence[Reference] = [reference.parse(n) for n in self._image.digests]
        return next(
            (n.path for n in names if n.domain == self._name.domain and n.path != self._name.path),
            "",
        )

    async def _upload(self, blob: Descriptor, location: str) -> None:
        joint = "&" if "?" in location else "?"
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(blob.size),
        }
        with self._content.open(blob.digest) as file:

            def body() -> AsyncIterator[bytes]:
                file.seek(0)
                return _chunks(file, lambda done: self._say(blob, progress.UPLOADING, done))

            url = f"{location}{joint}digest={blob.digest}"
            async with self._remote.request("PUT", url, headers=headers, data=body, ok=(201, 204)):
                pass

    async def _put_manifest(self) -> None:
        body = self._content.read(self._image.manifest)
        url = self._remote.url(f"{self._name.path}/manifests/{self._name.digest or self._name.tag}")
        headers = {"Content-Type": index.media_type(body, "")}
        async with self._remote.request(
            "PUT", url, headers=headers, data=lambda: body, ok=(200, 201, 202)
        ):
            pass

    def _say(self, blob: Descriptor, state: str, done: int) -> None:
        self._tell(LayerProgress(digest=blob.digest, state=state, done=done, total=blob.size))


async def _chunks(file: BinaryIO, tell: Callable[[int], None]) -> AsyncIterator[bytes]:
    done = 0
    while data := await asyncio.to_thread(file.read, CHUNK):
        yield data
        done += len(data)
        tell(done)
