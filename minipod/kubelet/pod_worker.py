"""The actor of one pod: a mailbox where the newest pod wins and a termination is never overwritten.

    update -> wake -> sync -> alarm at the due time
    delete -> wake -> terminate: containers, sandbox, directory, status, the object itself -> the
    end

Invariant: one sync or termination at a time. Waits that may be long (an image pull, a postStart
hook) end when a termination arrives.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from minipod.aio.flags import Flag
from minipod.aio.tasks import Background
from minipod.aio.timers import Alarm
from minipod.errors import MinipodError, NotFound
from minipod.kubelet import explaining, logs
from minipod.kubelet.stopping import GONE_GRACE, MINIMUM_GRACE, Stop
from minipod.kubelet.sync import PodSync
from minipod.kubelet.translate import pod_log_directory
from minipod.spec.ids import SandboxId

if TYPE_CHECKING:
    from collections.abc import Callable

    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.eviction import Eviction
    from minipod.kubelet.rules.observed import Observed
    from minipod.kubelet.rules.pods import Pod

logger = logging.getLogger(__name__)

_RETRY = 10.0


class PodWorker:
    """One pod, from its first sight to the end of its object."""

    def __init__(self, context: Context, pod: Pod, ended: Callable[[str], None]) -> None:
        self._context = context
        self._pod = pod
        self._ended = ended
        self._wake = Flag()
        self._alarm = Alarm(context.clock, self._wake.set)
        self._sync = PodSync(context, pod.uid)
        self._grace: float | None = None  # set once: the pod is being terminated
        self._object_gone = False
        self._terminating = False
        self._shortening = Background()
        self._wake.set()

    @property
    def pod(self) -> Pod:
        """The newest pod."""
        return self._pod

    @property
    def has_left(self) -> bool:
        """Whether the pod is over, and has given back what it held."""
        return self._sync.remains.cleared

    def update(self, pod: Pod) -> None:
        """The newest pod; what changed decides whether to look at it."""
        before, self._pod = self._pod, pod
        if pod.deletion_timestamp is not None:
            grace = pod.deletion_grace_period_seconds
            self._terminate(float(pod.termination_grace_period_seconds if grace is None else grace))
        elif _concerns_us(before) != _concerns_us(pod):
            self._wake.set()

    def gone(self) -> None:
        """The object was removed from the store: clean up, whatever the grace period was."""
        self._object_gone = True
        self._terminate(GONE_GRACE)

    def evict(self, eviction: Eviction) -> None:
        """End the pod, for the node's sake or its own limits; its object stays, Failed."""
        self._sync.evict(eviction)
        self._wake.set()

    def objects_changed(self) -> None:
        """Something that the pod refers to changed: its volumes follow, a start that failed is tried again."""
        self._sync.objects_changed()
        self._wake.set()

    def remove(self) -> None:
        """The file of a static pod is gone."""
        self._terminate(float(self._pod.termination_grace_period_seconds))

    def log_complete(self, container_id: str) -> None:
        """A container that has ended has no more to say."""
        if container_id in self._sync.messages.awaited:
            self._wake.set()

    def wake(self) -> None:
        """Something in the runtime or a probe changed."""
        self._wake.set()

    async def run(self) -> None:
        """Work until the pod is no more."""
        try:
            while self._grace is None:
                await self._wake.wait()
                self._wake.clear()
                if self._grace is None:
                    await self._sync_once()
            self._alarm.cancel()
            self._terminating = True
            self._wake.clear()
            while not await self._terminate_once():
                await self._woken_or_due()
        finally:
            self._alarm.cancel()
            self._ended(self._pod.uid)

    async def _woken_or_due(self) -> None:
        """Wait until another try makes sense: something changed, or some time has passed."""
        try:
            async with asyncio.timeout(_RETRY * self._context.jitter()):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _terminate(self, grace: float) -> None:
        if self._grace is not None and grace >= self._grace:
            return
        self._grace = grace
        self._wake.set()
        if not self._terminating:
            self._sync.interrupt()
        # A stop may be under way already: this pod's termination, or a kill of the last sync.
        self._shortening.spawn(
            self._sync.stopper.shorten(self._stop()), name=f"shorten {self._pod.full_name}"
        )

    def _stop(self) -> Stop:
        least = GONE_GRACE if self._object_gone else MINIMUM_GRACE
        return Stop(grace=self._grace or 0.0, minimum=least)

    async def _sync_once(self) -> None:
        try:
            self._alarm.set(await self._sync.sync(self._pod))
        except Exception as error:
            # The task boundary of one sync: the pod is tried again, the node goes on, whatever it was.
            logger.exception("sync of pod %s failed", self._pod.full_name)
            self._context.recorder.warning(
                self._pod, "FailedSync", f"error determining status: {_words(error)}"
            )
            self._alarm.set(self._context.clock() + _RETRY * self._context.jitter())

    async def _terminate_once(self) -> bool:
        try:
            await self._end()
        except Exception as error:  # as above: a pod that nobody ends would be there for ever
            logger.exception("ending pod %s failed", self._pod.full_name)
            self._context.recorder.warning(
                self._pod, "FailedKillPod", f"error killing pod: {_words(error)}"
            )
            return False
        return True

    async def _end(self) -> None:
        # narration
        context, pod = self._context, self._pod
        # 1. Containers in parallel.
        observed = await self._sync.observe(pod)
        stopping = self._sync.stopper.stop_containers(pod, observed, self._stop())
        await asyncio.gather(stopping, self._tell_begin(pod, observed))
        # 2. What the node holds of it, all at once; beside it the last word: terminal, whatever its policy.
        observed = await self._sync.observe(pod)
        await asyncio.gather(
            *(context.runtime.remove_pod_sandbox(SandboxId(s.id)) for s in observed.sandboxes),
            self._remove_directories(observed),
            self._tell_end(pod, observed),
        )
        # 3. The object goes last: who sees it gone knows that the node is clean, but for blocks of the disk (`aio.trash`).
        await self._delete_object()
        await asyncio.sleep(0)  # who waits for that hears it first
        context.probes.remove_pod(pod.uid)
        context.statuses.forget(pod.uid)
        context.journal.forget(pod.uid)

    async def _tell_begin(self, pod: Pod, observed: Observed) -> None:
        await _behind_others()
        context = self._context
        self._sync.publish(pod, observed, soon=False)
        context.journal.write(explaining.terminating(pod, self._grace or 0.0, context.clock()))

    async def _tell_end(self, pod: Pod, observed: Observed) -> None:
        await _behind_others()
        self._sync.publish(pod, observed, ended=True)

    async def _remove_directories(self, observed: Observed) -> None:
        """Have them out of sight; in a thread where that takes more than a rename, as it does with mounts."""
        await _behind_others()
        instance, trash = self._context.instance, self._context.trash
        directory, log = self._sync.directory, pod_log_directory(instance.log_dir, self._pod)
        if not directory.put_away(trash):
            await asyncio.to_thread(directory.remove, trash)
        if not trash.move(log):
            await asyncio.to_thread(trash.put, log)
        for container in observed.containers:
            logs.unlink(instance.log_link_dir, self._pod, container)

    async def _delete_object(self) -> None:
        pod = self._pod
        if self._object_gone or pod.is_static:
            return  # the mirror is its maker's to remove
        await self._context.statuses.flush(pod.uid)
        try:
            await self._context.store.delete(
                "pods", pod.namespace, pod.name, grace_period=0, uid=pod.uid
            )
        except NotFound:
            return


async def _behind_others() -> None:
    """Let what was begun with this ask for what it needs: others work on it then beside what follows here."""
    for _ in range(2):
        await asyncio.sleep(0)


def _words(error: Exception) -> str:
    """What an event says of an error; of several at once, the first."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error.message if isinstance(error, MinipodError) else str(error)


def _concerns_us(pod: Pod) -> tuple[object, ...]:
    """What of a pod makes the kubelet look again: everything but its own status writes."""
    foreign = [
        (c["type"], c["status"])
        for c in pod.status.get("conditions") or ()
        if c["type"] in pod.readiness_gates
    ]
    return (pod.raw.get("spec"), pod.labels, pod.annotations, foreign)
