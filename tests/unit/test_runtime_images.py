"""What the runtime knows of an image by its name: found once, anew when the store has another. Excluded: the store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from minipod.errors import ImageError
from minipod.image.config import ImageConfig
from minipod.image.store import Image
from minipod.runtime.images import Images

NAME, OTHER = "busybox:1.36", "registry.example/busybox:1"
BUSYBOX, MIRROR = "docker.io/library/busybox@sha256:1", "registry.example/busybox@sha256:2"


class Store:
    """A store of one image, which has both names."""

    def __init__(self) -> None:
        self.image: Image | None = Image(
            id="sha256:a", manifest="sha256:1", tags=(), digests=(BUSYBOX,), size=1, layer_digests=()
        )  # fmt: skip
        self.read = 0  # how often its config was

    def resolve(self, name: str) -> Image | None:
        return self.image if name in (NAME, OTHER) else None

    def layers(self, _: Image) -> tuple[str, ...]:
        return ()

    def config(self, _: Image) -> ImageConfig:
        self.read += 1
        return ImageConfig()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def images(store) -> Images:
    return Images(store, set, "")


def digests(images: Images, *names: str) -> list[tuple[str, str]]:
    """Return by which name each is known, and its repository digest."""

    async def ask() -> list[tuple[str, str]]:
        found = [await images.facts(name) for name in names]
        return [(facts.ref, facts.digest) for facts in found]

    return asyncio.run(ask())


def test_each_name_has_its_own_digest_however_often_it_is_asked_for(images, store) -> None:
    store.image = replace(store.image, digests=(BUSYBOX, MIRROR))
    expected = [(NAME, BUSYBOX), (OTHER, MIRROR)]
    assert digests(images, NAME, OTHER, NAME, OTHER) == [*expected, *expected]
    assert store.read == 1


def test_what_the_store_learns_of_an_image_is_seen(images, store) -> None:
    """A pull by another name gives it one digest more: the store then finds another value."""
    assert digests(images, OTHER, OTHER) == [(OTHER, BUSYBOX)] * 2
    store.image = replace(store.image, digests=(BUSYBOX, MIRROR))
    assert digests(images, OTHER, OTHER) == [(OTHER, MIRROR)] * 2
    assert store.read == 1


def test_another_image_of_the_same_name_is_read_anew(images, store) -> None:
    digests(images, NAME, NAME)
    store.image = replace(store.image, id="sha256:b")
    digests(images, NAME, NAME)
    assert store.read == 2


def test_an_image_that_was_removed_is_not_known_any_more(images, store) -> None:
    digests(images, NAME, NAME)
    store.image = None
    with pytest.raises(ImageError):
        digests(images, NAME)
