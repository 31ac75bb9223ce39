"""Ends pods when the node runs short of memory or disk, and pods that take more disk than their limits (K8S pkg/kubelet/eviction).

Memory pressure wakes it (PSI: the kernel says when tasks stall, Documentation/accounting/psi.rst); for disks there is no event, so it
also looks every `eviction_interval` seconds, as the kubelet does. Disk use is walked only for pods that have a limit, or when the
disk is short. One pod is ended at a time; the next look tells whether that was enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
from typing import TYPE_CHECKING

from minipod.errors import MinipodError
from minipod.kubelet.rules import eviction as rules
from minipod.kubelet.rules.eviction import DISK, MEMORY, PodUsage
from minipod.kubelet.rules.phase import TERMINAL
from minipod.kubelet.translate import pod_log_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from minipod.kubelet.context import Context
    from minipod.kubelet.pod_worker import PodWorker
    from minipod.kubelet.rules.pods import Pod

logger = logging.getLogger(__name__)

_STALLED = b"some 150000 1000000"  # 150 ms of stalls within a second
_DISK_FREE = 0.10  # nodefs.available<10%
_INODES_FREE = 0.05  # nodefs.inodesFree<5%


class EvictionManager:
    """See the module. *workers* gives the pods of now."""

    def __init__(
        self, context: Context, workers: Callable[[], Iterable[PodWorker]], interval: float
    ) -> None:
        self._context = context
        self._workers = workers
        self._interval = interval
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Look until cancelled."""
        with _memory_pressure(self._wake.set):
            while True:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._interval)
                try:
                    await self._look()
                except (MinipodError, OSError):
                    # The task boundary of one look: the next comes, the node goes on.
                    logger.exception("looking for pressure failed")

    async def _look(self) -> None:
        living = [w for w in self._workers() if self._lives(w.pod)]
        if not living:
            return
        free = memory_available()
        limit = self._context.instance.eviction_memory
        if free < limit:
            usages = [PodUsage(pod=w.pod, memory=m) for w, m in await self._memory(living)]
            self._evict_first(living, usages, MEMORY, limit, free)
            return
        state_dir = self._context.instance.state_dir
        short, threshold, left = disk_short(state_dir)
        measured = [w for w in living if short or rules.has_disk_limits(w.pod)]
        usages = [await self._disk(w.pod) for w in measured]
        for worker, usage in zip(measured, usages, strict=True):
            if words := rules.over_limit(usage):
                worker.evict(words)
        if short:
            self._evict_first(measured, usages, DISK, threshold, left)

    def _lives(self, pod: Pod) -> bool:
        status = self._context.statuses.get(pod.uid) or pod.status
        return status.get("phase") not in TERMINAL and not pod.deleting

    def _evict_first(
        self, living: list[PodWorker], usages: list[PodUsage], resource: str, limit: int, free: int
    ) -> None:
        for usage in rules.ranked(usages, resource)[:1]:
            words = rules.pressure_message(usage, resource, limit, free)
            logger.warning("evicting pod %s: %s", usage.pod.full_name, words)
            next(w for w in living if w.pod.uid == usage.pod.uid).evict(words)

    async def _memory(self, workers: list[PodWorker]) -> list[tuple[PodWorker, int]]:
        stats = await self._context.runtime.list_container_stats()
        used: dict[str, int] = {}
        for one in stats:
            used[one.pod_uid] = used.get(one.pod_uid, 0) + one.working_set
        return [(w, used.get(w.pod.uid, 0)) for w in workers]

    async def _disk(self, pod: Pod) -> PodUsage:
        state_dir = self._context.instance.state_dir
        logs = pod_log_directory(self._context.instance.log_dir, pod)
        containers = await self._context.runtime.list_containers(pod.uid)
        volumes = f"{state_dir}/pods/{pod.uid}/volumes/kubernetes.io~empty-dir"

        def measure() -> PodUsage:
            layers: dict[str, int] = {}
            for c in containers:
                size = disk_usage(f"{state_dir}/containers/{c.id}/upper")
                layers[c.spec.name] = layers.get(c.spec.name, 0) + size
            for name in layers:
                layers[name] += disk_usage(f"{logs}/{name}")
            on_disk = {v["name"] for v in pod.volumes if "emptyDir" in v}
            sizes = {name: disk_usage(f"{volumes}/{name}") for name in on_disk}
            return PodUsage(pod=pod, containers=layers, volumes=sizes)

        return await asyncio.to_thread(measure)


@contextlib.contextmanager
def _memory_pressure(callback: Callable[[], None]) -> Iterator[None]:
    """Call back when memory gets short; a kernel without PSI never does."""
    try:
        fd = os.open("/proc/pressure/memory", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        os.write(fd, _STALLED)
        # The event is an exceptional condition (EPOLLPRI), which the loop does not watch: an epoll of our own turns it into "readable".
        with select.epoll() as poll:
            poll.register(fd, select.EPOLLPRI | select.EPOLLET)
            loop = asyncio.get_running_loop()

            def told() -> None:
                poll.poll(0)
                callback()

            loop.add_reader(poll.fileno(), told)
            try:
                yield
            finally:
                loop.remove_reader(poll.fileno())
    except OSError:
        logger.info("no notice of memory pressure: the kernel takes no trigger")
        yield
    finally:
        os.close(fd)


def memory_available() -> int:
    """Bytes that new programs can get."""
    with open("/proc/meminfo", encoding="ascii") as file:
        fields = dict(line.split(":") for line in file)
    return int(fields["MemAvailable"].split()[0]) * 1024


def disk_short(path: str) -> tuple[bool, int, int]:
    """Whether the node's disk is short; the threshold and what is available, in bytes."""
    info = os.statvfs(path)
    threshold = int(info.f_blocks * info.f_frsize * _DISK_FREE)
    free = info.f_bavail * info.f_frsize
    inodes = info.f_files and info.f_favail < info.f_files * _INODES_FREE
    return free < threshold or bool(inodes), threshold, free


def disk_usage(path: str) -> int:
    """Bytes that a tree takes on its disk; what is mounted below it is not its."""
    total = 0
    try:
        device = os.lstat(path).st_dev
    except FileNotFoundError:
        return 0
    for base, directories, files in os.walk(path):
        for name in (*directories, *files):
            try:
                info = os.lstat(f"{base}/{name}")
            except FileNotFoundError:
                continue
            if info.st_dev == device:
                total += info.st_blocks * 512
    return total
