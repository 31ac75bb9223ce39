"""A pull from its name to the image in the store.

    endpoints -> digest of the tag -> manifest (through an index: our platform's) -> config -> layers -> names

One `Puller` for each process: who asks for the same image with the same credentials waits for the same pull,
and two images that share a layer fetch it once. Sources are asked in order; the first that has the
manifest is asked for the blobs, those behind it are its substitutes. An image whose digest is here already costs one HEAD.

Raises ImageError with the reason ErrImagePull, and InvalidImageName for what is no name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from minipod.errors import ImageError
from minipod.image import reference
from minipod.image.config import parse_config
from minipod.image.content import SMALL_MAX, Descriptor
from minipod.image.ingest import Ingest
from minipod.image.manifest import INDEXES, Manifest, parse_manifest
from minipod.image.reference import Reference
from minipod.image.registry import hosts, index, platform, progress
from minipod.image.registry.download import Download, WrongContent
from minipod.image.registry.flights import Flights, Locks
from minipod.image.registry.http import ATTEMPTS, Http, RequestFailed
from minipod.image.registry.layout import Layout
from minipod.image.registry.platform import Platform
from minipod.image.registry.progress import LayerProgress, Tell
from minipod.image.registry.remote import Remote
from minipod.image.registry.source import Fetched, Source
from minipod.image.store import Image, ImageStore
from minipod.spec.registry import ANONYMOUS, AuthConfig

logger = logging.getLogger(__name__)

T = TypeVar("T")

LAYERS_AT_ONCE = 4  # of one image
MAX_INDEX_DEPTH = 4  # an index of indexes of indexes
TRIES = 2  # a pull whose bytes were wrong begins once more


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be pulled; equal ones are one pull."""

    image: Reference
    auth: AuthConfig = ANONYMOUS
    platform: str = ""  # "" = the machine's


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A manifest of ours, with where the name led first."""

    fetched: Fetched
    media_type: str
    target: str  # digest that the name stands for: of the index, if there is one


class Puller:
    """Pulls into *store*; *directory* is that of the hosts.toml files."""

    def __init__(self, store: ImageStore, directory: str = hosts.DEFAULT_DIRECTORY) -> None:
        self._store = store
        self._directory = directory
        self._flights: Flights[Image] = Flights()
        self._blobs = Locks()

    async def pull(
        self,
        name: str,
        auth: AuthConfig = ANONYMOUS,
        *,
        wanted: str = "",
        tell: Tell = progress.quiet,
    ) -> Image:
        """Bring the image called *name* up to date; *wanted* is a platform. Raises ImageError."""
        parsed = reference.parse(name)
        if parsed.digest:  # the tag beside it says nothing
            parsed = Reference(domain=parsed.domain, path=parsed.path, digest=parsed.digest)
        wish = Wish(image=parsed, auth=auth, platform=wanted)
        try:
            return await self._flights.join(wish, lambda tell: self._run(wish, tell), tell)
        except ImageError as e:
            message = f'failed to pull image "{parsed.canonical()}": {e.message}'
            raise ImageError(message, reason=e.reason, hint=e.hint) from e

    async def _run(self, wish: Wish, tell: Tell) -> Image:
        for last in (*([False] * (TRIES - 1)), True):
            try:
                async with Http() as http:
                    return await self._attempt(wish, http, tell)
            except RequestFailed:
                raise  # what is here of it is right: the next pull goes on with it
            except ImageError as e:
                if last or not isinstance(e, WrongContent):
                    await asyncio.to_thread(self._store.sweep)  # nobody wants its blobs
                    raise
                logger.warning("pull of %s begins anew: %s", wish.image.canonical(), e.message)
        raise AssertionError

    async def _attempt(self, wish: Wish, http: Http, tell: Tell) -> Image:
        # narration
        fits = platform.parse(wish.platform) if wish.platform else platform.of_machine()
        sources = self._sources(wish, http)
        if not sources:
            raise index.refuse(f"no host of {wish.image.domain} has the capability to pull")
        # 1. Is it here? A tag is asked for its digest, a digest says it itself.
        image, digest = wish.image, wish.image.digest
        if not digest:
            resolving = [s for s in sources if s.resolves]
            if not resolving:
                raise index.refuse(f"no host of {image.domain} has the capability to resolve")
            digest, left = await self._first(image, resolving, lambda s, n: s.digest(image, n))
            # Those that failed are asked no more; a host that only pulls knows digests, not tags.
            sources = [s for s in sources if s in left or (digest and not s.resolves)]
        here = await asyncio.to_thread(self._here, image, digest, fits)
        if here is not None:
            return here
        # 2. The manifest for our platform.
        fetched, sources = await self._first(
            image, sources, lambda s, n: s.manifest(image, digest, n)
        )
        found = await self._manifest(image, fetched, sources[0], fits)
        manifest = parse_manifest(found.fetched.body)
        # 3. The config says which layers these are; then the layers, unpacked as they come.
        with ThreadPoolExecutor(LAYERS_AT_ONCE + 2, "pull") as threads:
            download = Download(image, sources, threads, tell)
            config = await self._config(download, manifest, fits)
            async with self._ingest(download, found, config) as ingest:
                await self._layers(download, ingest, manifest, tell)
                # 4. Everything is here: the name.
                made = await download.in_thread(ingest.commit, [image.canonical()])
        for layer in manifest.layers:
            _say(tell, layer, progress.COMPLETE, layer.size)
        return made

    def _sources(self, wish: Wish, http: Http) -> Sequence[Source]:
        image = wish.image
        found = hosts.endpoints(self._directory, image.domain, "pull")
        scope = f"repository:{image.path}:pull"
        return [
            Layout(e.layout, resolves="resolve" in e.capabilities)
            if e.layout
            else Remote(http, e, wish.auth, scope)
            for e in found
        ]

    async def _first(
        self,
        image: Reference,
        sources: Sequence[Source],
        ask: Callable[[Source, int], Awaitable[T]],
    ) -> tuple[T, Sequence[Source]]:
        """Return the answer of the first source that has one, and it with its substitutes.

        Of several failures that of a registry that answered is the one to show.
        """
        failures: list[RequestFailed] = []
        for position, source in enumerate(sources):
            last = position == len(sources) - 1
            try:
                # Nobody waits for a mirror: only the registry, or the last one, is asked again.
                found = await ask(source, ATTEMPTS if last or source.is_server else 1)
                return found, [source] if source.is_server else sources[position:]
            except RequestFailed as e:
                failures.append(e)
                if source.is_server and e.answered:
                    break
                if not last:
                    logger.info("%s for %s: %s", source.name, image.canonical(), e.message)
        raise max(failures, key=lambda e: bool(e.status))

    def _here(self, image: Reference, digest: str, fits: Platform) -> Image | None:
        """Return the image when the store has what the name means now, for this platform."""
        known = self._store.resolve(image.canonical()) if digest else None
        if known is None or f"{image.name}@{digest}" not in known.digests:
            return None
        complete = all(
            self._store.content.size(layer.digest) == layer.size
            for layer in self._store.manifest(known).layers
        )
        architecture = self._store.config(known).architecture
        return known if complete and architecture in ("", fits.architecture) else None

    async def _manifest(
        self, image: Reference, fetched: Fetched, source: Source, fits: Platform
    ) -> _Found:
        target = image.digest or fetched.digest
        for _ in range(MAX_INDEX_DEPTH):
            kind = index.media_type(fetched.body, fetched.media_type)
            if kind not in INDEXES:
                through = target if target != fetched.digest else ""
                return _Found(fetched=fetched, media_type=kind, target=through)
            chosen = index.choose(fetched.body, fits)
            fetched = await source.manifest(image, chosen.digest, ATTEMPTS)
        raise index.refuse(f"image index is more than {MAX_INDEX_DEPTH} levels deep")

    async def _config(self, download: Download, manifest: Manifest, fits: Platform) -> bytes:
        if manifest.config.size > SMALL_MAX:
            size = manifest.config.size
            raise index.refuse(f"image config of {size} bytes is larger than {SMALL_MAX}")
        config = await download.small(manifest.config)
        architecture = parse_config(config).architecture
        if architecture not in ("", fits.architecture):
            raise index.refuse(
                f"no match for platform {fits} in manifest",
                hint=f"the image is for {architecture}",
            )
        self._check_space(manifest)
        return config

    def _check_space(self, manifest: Manifest) -> None:
        """Refuse what can't fit before anything of it is fetched."""
        here = self._store.content
        layers = {x.digest: x.size for x in manifest.layers if here.size(x.digest) is None}
        needed = sum(layers.values())
        disk = os.statvfs(self._store.root)
        free = disk.f_bavail * disk.f_frsize
        if needed > free:
            raise index.refuse(
                f"layers of {needed} bytes do not fit into the {free} bytes that are free",
                hint="minipod image prune",
            )

    @contextlib.asynccontextmanager
    async def _ingest(
        self, download: Download, found: _Found, config: bytes
    ) -> AsyncIterator[Ingest[Image]]:
        with contextlib.ExitStack() as stack:
            entering = self._store.ingest(
                found.fetched.body, config, media_type=found.media_type, target=found.target
            )
            ingest = await download.in_thread(stack.enter_context, entering)
            try:
                yield ingest
            finally:
                await download.in_thread(stack.close)  # waits for the unpacking thread

    async def _layers(
        self, download: Download, ingest: Ingest[Image], manifest: Manifest, tell: Tell
    ) -> None:
        limit = asyncio.Semaphore(LAYERS_AT_ONCE)
        layers = list({layer.digest: layer for layer in manifest.layers}.values())
        for layer in layers:
            _say(tell, layer, progress.WAITING, 0)

        async def one(layer: Descriptor) -> None:
            async with limit, self._blobs.hold(layer.digest):
                writer = await download.in_thread(ingest.writer, layer)
                if writer is None:
                    _say(tell, layer, progress.EXISTS, layer.size)
                    return
                _say(tell, layer, progress.DOWNLOADING, writer.offset)
                await download.layer(layer, writer)
                _say(tell, layer, progress.DOWNLOADED, layer.size)

        await _all([one(layer) for layer in layers])


async def _all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do all of it at once; the first failure ends the others, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in work:
                group.create_task(part)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _say(tell: Tell, layer: Descriptor, state: str, done: int) -> None:
    tell(LayerProgress(digest=layer.digest, state=state, done=done, total=layer.size))
