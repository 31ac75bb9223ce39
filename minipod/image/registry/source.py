"""What a pull needs of a place that has images: a manifest by name, a blob from an offset on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from minipod.image.reference import Reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A manifest or index as it came; its digest has been compared with what was asked for."""

    body: bytes
    media_type: str  # the Content-Type, as it was
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A blob's bytes from *offset* on: where a place can't begin in the middle, it is 0."""

    offset: int
    chunks: AsyncIterator[bytes]


class Source(Protocol):
    """A registry's endpoint, or a directory. Raises RequestFailed (status 404: it does not have it)."""

    name: str
    resolves: bool  # whether it may say what a tag leads to
    is_server: bool  # the registry itself: its answer is the answer, no other place is asked then

    async def digest(self, image: Reference, attempts: int) -> str:
        """Return the digest that the tag leads to now; "" when only fetching it can tell."""

    async def manifest(self, image: Reference, digest: str, attempts: int) -> Fetched:
        """Fetch the manifest *digest*, or that of the tag when it is ""."""

    def blob(self, image: Reference, digest: str, offset: int) -> AbstractAsyncContextManager[Part]:
        """Open a blob. Does not retry: the caller knows how far it got."""
