"""Image garbage collection by the kubelet's rules (K8S pkg/kubelet/images/image_gc_manager.go).

At `high` percent of the disk images go, the longest unused first, until only `low` percent are used; never
one that a container is made from, nor one seen for less than `min_age`. With `max_age`, an image that long
unused goes whatever the disk says. What the kubelet does not have to do: sweep what kills left, and
take the marks off layers that are on the disk by now.

`Collector` remembers when it first saw an image and when one was last in use; like the kubelet it
begins anew with each start of the daemon. Synchronous.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from minipod.image.content import PARTIAL_AGE
from minipod.image.store import ImageStore

logger = logging.getLogger(__name__)

PERIOD = 300.0  # seconds between two collections, the kubelet's ImageGCPeriod


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When to collect; the defaults are the kubelet's."""

    high: int = 85  # percent of the disk
    low: int = 80
    min_age: float = 120.0  # seconds
    max_age: float = 0.0  # seconds, 0: never by age alone


class Disk(NamedTuple):
    """The file system of the images, in bytes; *available* as df counts it."""

    capacity: int
    available: int

    @property
    def percent(self) -> int:
        return 100 - self.available * 100 // self.capacity if self.capacity else 0


@dataclass(slots=True)
class Record:
    """What the collector knows of one image."""

    first_seen: float
    last_used: float = 0.0


def disk_of(path: str) -> Disk:
    """Return the state of the file system below *path*."""
    found = os.statvfs(path)
    return Disk(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def candidates(records: dict[str, Record], used: set[str], policy: Policy, now: float) -> list[str]:
    """Return the ids of images that may go for room, the first to go first. Pure."""
    old = [
        (record.last_used, record.first_seen, image)
        for image, record in records.items()
        if image not in used and now - record.first_seen >= policy.min_age
    ]
    return [image for _, _, image in sorted(old)]


def outdated(records: dict[str, Record], used: set[str], policy: Policy, now: float) -> list[str]:
    """Return the ids of images that go for their age. Pure."""
    if not policy.max_age:
        return []
    return [
        image
        for image, record in records.items()
        if image not in used and now - max(record.last_used, record.first_seen) > policy.max_age
    ]


class Collector:
    """Collects garbage of *store*; *in_use* returns the ids of images that containers need."""

    def __init__(
        self,
        store: ImageStore,
        policy: Policy,
        in_use: Callable[[], set[str]],
        *,
        disk: Callable[[str], Disk] = disk_of,
    ) -> None:
        self._store = store
        self._policy = policy
        self._in_use = in_use
        self._disk = disk
        self._records: dict[str, Record] = {}

    def collect(self, now: float) -> list[str]:
        """Do one round at *now* (seconds since the epoch); return the ids of the images that went."""
        self._store.settle()
        self._store.sweep(older=PARTIAL_AGE)
        used = self._detect(now)
        gone = self._drop(outdated(self._records, used, self._policy, now))
        disk = self._disk(self._store.root)
        if disk.percent < self._policy.high:
            return gone
        wanted = disk.capacity * (100 - self._policy.low) // 100
        for image in candidates(self._records, used, self._policy, now):
            if disk.available >= wanted:
                break
            gone += self._drop([image])
            disk = self._disk(self._store.root)
        if disk.available < wanted:
            logger.warning(
                "images: %d bytes are to be freed, but nothing more may go",
                wanted - disk.available,
            )
        return gone

    def reclaim(self, now: float) -> list[str]:
        """Remove every image that nothing uses and that is old enough: the disk is short (DeleteUnusedImages)."""
        used = self._detect(now)
        return self._drop(candidates(self._records, used, self._policy, now))

    def _detect(self, now: float) -> set[str]:
        used = self._in_use()
        here = {image.id for image in self._store.list()}
        self._records = {
            image: self._records.get(image) or Record(first_seen=now) for image in here
        }
        for image in used & here:
            self._records[image].last_used = now
        return used

    def _drop(self, images: list[str]) -> list[str]:
        gone = (
            [image.id for image in self._store.drop(images, in_use=self._in_use)] if images else []
        )
        for image in gone:
            self._records.pop(image, None)
            logger.info("removed image %s to free its room", image)
        return gone
