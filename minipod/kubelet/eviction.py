"""Ends pods when the node runs short of memory or disk, and pods that take more disk than their limits (K8S pkg/kubelet/eviction).

Memory pressure wakes it (PSI: the kernel says when tasks stall, Documentation/accounting/psi.rst); for disks there is no event, so it
also looks every `eviction_interval` seconds, as the kubelet does. Disk use is walked only for pods that have a limit, or when the
disk is short; then unused images go first. One pod is ended at a time; when it has given back what it held, the next look tells whether
that was enough. `pressure` has the thresholds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from minipod.errors import MinipodError
from minipod.kubelet.rules import eviction as rules
from minipod.kubelet.rules.eviction import MEMORY, Eviction, PodUsage
from minipod.kubelet.rules.phase import TERMINAL
from minipod.kubelet.translate import pod_log_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minipod.kubelet.context import Context
    from minipod.kubelet.pod_worker import PodWorker
    from minipod.kubelet.pressure import PressureGauge, Shortage
    from minipod.kubelet.rules.pods import Pod

logger = logging.getLogger(__name__)

Reclaim = Callable[[], Awaitable[None]]  # remove unused images
_LEAVING = 30.0  # seconds at most that a pod's end is waited for (podCleanupTimeout)
_STALLED = b"some 150000 1000000"  # 150 ms of stalls within a second


class EvictionManager:
    """See the module. *workers* gives the pods of now, *changed* is called when the node's conditions may be others."""

    def __init__(
        self,
        context: Context,
        gauge: PressureGauge,
        workers: Callable[[], Iterable[PodWorker]],
        *,
        reclaim: Reclaim,
        changed: Callable[[], None],
    ) -> None:
        self._context = context
        self._gauge = gauge
        self._workers = workers
        self._reclaim = reclaim
        self._changed = changed
        self._told: tuple[str, ...] = ()
        self._wake = asyncio.Event()
        # the last that had to go, until when it is waited for
        self._leaving: tuple[PodWorker, float] | None = None
        self.evictions: Counter[str] = Counter()  # by resource

    async def run(self) -> None:
        """Look until cancelled."""
        interval = self._context.instance.eviction_interval
        with _memory_pressure(self._wake.set):
            while True:
                try:
                    await self._look()
                except (MinipodError, OSError):
                    # The task boundary of one look: the next comes, the node goes on.
                    logger.exception("looking for pressure failed")
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), interval)

    async def _look(self) -> None:
        memory = await self._memory() if self._context.machine.reserved_memory else {}
        short = self._gauge.read(sum(sum(used.values()) for used in memory.values()))
        self._tell()
        living = [w for w in self._workers() if self._lives(w.pod)]
        if short and short[0].resource == MEMORY:
            memory = memory or await self._memory()
            usages = [PodUsage(pod=w.pod, memory=memory.get(w.pod.uid, {})) for w in living]
            self._evict_first(living, usages, short[0])
            return
        if short:
            await self._reclaim()
            short = self._gauge.read(0)
        measured = [w for w in living if short or rules.has_disk_limits(w.pod)]
        usages = [await self._disk(w.pod) for w in measured]
        for worker, usage in zip(measured, usages, strict=True):
            if words := rules.over_limit(usage):
                worker.evict(Eviction(message=words))
        if short:
            self._evict_first(measured, usages, short[0])

    def _tell(self) -> None:
        now = self._gauge.conditions()
        if now != self._told:
            self._told = now
            self._changed()

    def _lives(self, pod: Pod) -> bool:
        status = self._context.statuses.get(pod.uid) or pod.status
        return status.get("phase") not in TERMINAL and not pod.deleting

    def _evict_first(
        self, living: list[PodWorker], usages: list[PodUsage], short: Shortage
    ) -> None:
        if self._leaving is not None and not self._has_left(*self._leaving):
            return
        for usage in rules.ranked(usages, short.resource)[:1]:
            words = rules.pressure_message(usage, short.resource, short.threshold, short.available)
            logger.warning("evicting pod %s: %s", usage.pod.full_name, words)
            worker = next(w for w in living if w.pod.uid == usage.pod.uid)
            worker.evict(Eviction(message=words, disruption=words, resource=short.resource))
            self._leaving = worker, self._context.clock() + _LEAVING
            self.evictions[short.resource] += 1

    def _has_left(self, worker: PodWorker, deadline: float) -> bool:
        return worker.has_left or worker not in self._workers() or self._context.clock() > deadline

    async def _memory(self) -> dict[str, dict[str, int]]:
        """The working sets of all containers, by pod and name."""
        used: dict[str, dict[str, int]] = {}
        for one in await self._context.runtime.list_container_stats():
            used.setdefault(one.pod_uid, {})[one.name] = one.working_set
        return used

    async def _disk(self, pod: Pod) -> PodUsage:
        state_dir = self._context.instance.state_dir
        logs = pod_log_directory(self._context.instance.log_dir, pod)
        containers = await self._context.runtime.list_containers(pod.uid)
        volumes = f"{state_dir}/pods/{pod.uid}/volumes/kubernetes.io~empty-dir"

        def measure() -> PodUsage:
            layers: dict[str, int] = {}
            inodes = 0
            parts = [(c.spec.name, f"{state_dir}/containers/{c.id}/upper") for c in containers]
            parts += [(name, f"{logs}/{name}") for name in {c.spec.name for c in containers}]
            for name, path in parts:
                size, files = disk_usage(path)
                layers[name] = layers.get(name, 0) + size
                inodes += files
            sizes = {}
            for name in {v["name"] for v in pod.volumes if "emptyDir" in v}:
                sizes[name], files = disk_usage(f"{volumes}/{name}")
                inodes += files
            return PodUsage(pod=pod, containers=layers, volumes=sizes, inodes=inodes)

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


def disk_usage(path: str) -> tuple[int, int]:
    """Bytes and inodes that a tree takes on its disk; what is mounted below it is not its."""
    total = files = 0
    try:
        device = os.lstat(path).st_dev
    except FileNotFoundError:
        return 0, 0
    for base, directories, names in os.walk(path):
        for name in (*directories, *names):
            try:
                info = os.lstat(f"{base}/{name}")
            except FileNotFoundError:
                continue
            if info.st_dev == device:
                total += info.st_blocks * 512
                files += 1
    return total, files
