"""The kubelet: pods in the store become running pods, and what becomes of them is told to the
store.

    store --watch--> PodSource --> one PodWorker per pod --> runtime
                                        ^   wakes by: runtime events, probe results, alarms

Owns the set of workers. On start it registers the node, removes what belongs to no pod, and takes
up what runs: restart counts, backoff and readiness are read back from the runtime, the prober and
the stored status.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from typing import TYPE_CHECKING

from minipod.aio.spares import Spares
from minipod.aio.tasks import Background, run_root
from minipod.aio.trash import Trash
from minipod.api.informer import Informer
from minipod.api.placement import node_facts
from minipod.errors import MinipodError, NotFound
from minipod.journal import Journal
from minipod.kubelet import dns_host, explaining, logs, node, pod_status
from minipod.kubelet.admission import Admission
from minipod.kubelet.context import Context
from minipod.kubelet.events import EventRecorder
from minipod.kubelet.eviction import EvictionManager
from minipod.kubelet.heartbeat import Heartbeat
from minipod.kubelet.logs import LogRotator
from minipod.kubelet.manifests import Manifests
from minipod.kubelet.objects import ObjectReader, ObjectWatch
from minipod.kubelet.pod_worker import PodWorker
from minipod.kubelet.pressure import PressureGauge
from minipod.kubelet.probe.manager import ProbeManager
from minipod.kubelet.probe.targets import socket_path
from minipod.kubelet.qos_cgroups import QosCgroups
from minipod.kubelet.rules import references
from minipod.kubelet.rules.dns import Cluster
from minipod.kubelet.rules.probe import Outcome
from minipod.kubelet.sources import PodSource
from minipod.kubelet.static_pods import StaticPods
from minipod.kubelet.status_manager import StatusManager
from minipod.kubelet.volumes import PodDirectory
from minipod.runtime.service import EventType
from minipod.spec.ids import SandboxId

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from minipod.aio.timers import Clock
    from minipod.api.store import Store
    from minipod.api.tokens import TokenIssuer
    from minipod.kubelet.dns_host import HostDns
    from minipod.kubelet.eviction import Reclaim
    from minipod.kubelet.probe.targets import Report
    from minipod.kubelet.qos_cgroups import LimitCgroup
    from minipod.kubelet.rules.eviction import Eviction
    from minipod.kubelet.rules.pods import Pod
    from minipod.runtime.service import ImageService, RuntimeEvent, RuntimeService
    from minipod.spec.instance import Instance

logger = logging.getLogger(__name__)

VERSION = "v1.32.0-minipod"
_JOURNAL = 0.005  # seconds from the first record to the write of all that has gathered: the supervisor works by then
_DIRECTORIES, _FILES = 5, 2  # of a pod with one container, on the disk: its own and its logs'


def _soon(flush: Callable[[], None]) -> None:
    """Write the journal's files behind the step that was decided on."""
    asyncio.get_running_loop().call_later(_JOURNAL, flush)


async def _nothing() -> None:
    """Reclaim no image: there is no collector."""


class Kubelet:
    """The node agent. `run` is its root task; `ready` is called when the first list was handled."""

    def __init__(  # noqa: PLR0913 - the composition root names each part
        self,
        instance: Instance,
        store: Store,
        runtime: RuntimeService,
        images: ImageService,
        *,
        clock: Clock,
        host_ip: str = "",
        tokens: TokenIssuer | None = None,
        host_dns: HostDns | None = None,
        reclaim: Reclaim = _nothing,
        limit_cgroup: LimitCgroup = lambda *_: None,
        ready: Callable[[], None] = lambda: None,
        jitter: Callable[[], float] = lambda: random.uniform(1.0, 1.5),  # noqa: S311
    ) -> None:
        machine = node.read_machine(instance, host_ip)
        statuses = StatusManager(store)
        self._ready = ready
        self._workers: dict[str, PodWorker] = {}
        self._tasks = Background()
        self._rotator = LogRotator(
            runtime, max_bytes=instance.log_max_bytes, max_files=instance.log_max_files
        )
        self._objects = ObjectWatch(store, self._objects_changed)
        self._qos_cgroups = QosCgroups(machine, limit_cgroup)
        gauge = PressureGauge(instance, machine, clock)
        self._heartbeat = Heartbeat(store, machine.node_name, gauge.conditions, clock)
        self._node = Informer(store, "nodes", node_facts)
        self.context = Context(
            instance=instance,
            store=store,
            runtime=runtime,
            images=images,
            recorder=EventRecorder(store, node_name=machine.node_name, clock=clock),
            statuses=statuses,
            admission=Admission(
                machine,
                unsafe_sysctls=instance.allowed_unsafe_sysctls,
                node=lambda: self._node.get("", machine.node_name),
                pressure=gauge.conditions,
                wake=self._wake,
                burstable=self._qos_cgroups.set_burstable,
            ),
            probes=ProbeManager(
                socket_path(instance.run_dir),
                on_change=self._probe_changed,
                on_attempt=self._attempt_failed,
            ),
            journal=Journal(f"{instance.run_dir}/journal", later=_soon),
            spares=Spares(f"{instance.state_dir}/spare"),
            trash=Trash(f"{instance.state_dir}/trash/pods", f"{instance.run_dir}/trash/pods"),
            objects=ObjectReader(store),
            tokens=tokens,
            api_address=instance.gateways[0],
            machine=machine,
            cluster=Cluster(domain=instance.cluster_domain, dns=instance.cluster_dns),
            host_dns=host_dns or dns_host.read,
            clock=clock,
            jitter=jitter,
            evict=self._evict,
        )
        self.static = StaticPods(
            self.context,
            Manifests(instance.static_pod_dir, machine.node_name),
            run_pod=self._pod_changed,
            end_pod=self._static_removed,
        )
        self._source = PodSource(
            store,
            machine.node_name,
            changed=self._pod_changed,
            gone=self._pod_gone,
            mirror=self.static.mirror_changed,
        )

        self._eviction = EvictionManager(
            self.context, gauge, lambda: tuple(self._workers.values()),
            reclaim=reclaim, changed=self._pressure_changed,
        )  # fmt: skip

    @property
    def evictions(self) -> Mapping[str, int]:
        """How many pods were evicted since the start, by what was short."""
        return self._eviction.evictions

    def pods(self) -> list[Pod]:
        """The pods of now."""
        return [worker.pod for worker in self._workers.values()]

    async def run(self) -> None:
        """Work until cancelled; pods keep running."""
        context = self.context
        unsubscribe = context.runtime.subscribe(self._runtime_event)
        try:
            self._qos_cgroups.start()
            ready = context.instance.prepared_sandboxes
            context.spares.keep(directories=_DIRECTORIES * ready, files=_FILES * ready)
            await node.register(context.store, context.machine, version=VERSION)
            await self._heartbeat.beat()
            pods, version = await self._source.snapshot()
            self.static.load([dict(pod.raw) for pod in pods if pod.is_mirror])
            ours = [pod for pod in pods if not pod.is_mirror] + self.static.pods
            self._seed_probes(ours)
            context.journal.keep_only(pod.uid for pod in ours)
            await self._remove_orphans({pod.uid for pod in ours})
            logs.unlink_dead(context.instance.log_link_dir)
            self._tasks.spawn(self._rotator.check_all(), name="log rotation")
            context.recorder.node("Starting", "Starting kubelet.")
            await run_root(
                ("kubelet-events", context.recorder.run()),
                ("kubelet-node", self._node.run()),
                ("kubelet-heartbeat", self._heartbeat.run()),
                ("kubelet-probes", context.probes.run()),
                ("kubelet-pods", self._run_source(pods, version)),
                *((f"kubelet-{kind}", self._objects.run(kind)) for kind in references.WATCHED),
                ("kubelet-eviction", self._eviction.run()),
                ("kubelet-static-pods", self.static.run()),
            )
        finally:
            unsubscribe()
            context.journal.flush()
            await self._tasks.close()
            await context.statuses.close()

    async def _run_source(self, pods: list[Pod], version: int) -> None:
        context = self.context
        message = f"Node {context.machine.node_name} status is now: NodeReady"
        context.recorder.node("NodeReady", message)
        await self._node.synced.wait()  # its labels and taints say who is admitted
        self._ready()
        await self._source.run(pods, version)

    def _pod_changed(self, pod: Pod) -> None:
        worker = self._workers.get(pod.uid)
        if worker is None:
            worker = PodWorker(self.context, pod, self._worker_ended)
            self._workers[pod.uid] = worker
            self._tasks.spawn(worker.run(), name=f"pod {pod.namespace}/{pod.name}")
        self._objects.set_pod(pod)
        worker.update(pod)

    def _pod_gone(self, pod: Pod) -> None:
        worker = self._workers.get(pod.uid)
        if worker is not None:
            worker.gone()

    def _static_removed(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.remove()

    def _worker_ended(self, uid: str) -> None:
        self._workers.pop(uid, None)
        self.context.admission.release(uid)
        self.static.ended(uid)
        self._objects.forget(uid)

    def _objects_changed(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.objects_changed()

    def _evict(self, uid: str, eviction: Eviction) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.evict(eviction)

    def _pressure_changed(self) -> None:
        self._tasks.spawn(self._heartbeat.beat(), name="heartbeat")

    def _wake(self, uid: str) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            worker.wake()

    def _probe_changed(self, report: Report) -> None:
        if report.attempt is None and report.run and report.pod_uid in self._workers:
            self.context.journal.write(explaining.probed(report))
        self._wake(report.pod_uid)

    def _runtime_event(self, event: RuntimeEvent) -> None:
        if event.type in (EventType.CONTAINER_CREATED, EventType.CONTAINER_STARTED):
            return  # by the worker's own sync, which looks again behind it
        if event.type is EventType.CONTAINER_OOM:
            self._tasks.spawn(self._tell_oom(event), name="oom event")
        if event.type is EventType.CONTAINER_LOG_FULL:
            self._tasks.spawn(self._rotate(event), name="log rotation")
            return
        if event.type is EventType.CONTAINER_LOG_COMPLETE:
            if (worker := self._workers.get(event.pod_uid)) is not None:
                worker.log_complete(event.container_id or "")
            return
        if event.pod_uid:
            self._wake(event.pod_uid)
            return
        for worker in self._workers.values():
            worker.wake()

    async def _rotate(self, event: RuntimeEvent) -> None:
        assert event.container_id is not None
        with contextlib.suppress(NotFound):  # gone meanwhile
            await self._rotator.check(
                await self.context.runtime.container_status(event.container_id)
            )

    async def _tell_oom(self, event: RuntimeEvent) -> None:
        """A child of a container was killed for memory: nothing but this event tells of it."""
        worker = self._workers.get(event.pod_uid)
        if worker is None or event.container_id is None:
            return
        try:
            status = await self.context.runtime.container_status(event.container_id)
        except NotFound:  # gone meanwhile
            return
        found = {c.name: c for c in worker.pod.all_containers}
        message = f"Memory cgroup out of memory: {event.detail}"
        self.context.recorder.warning(
            worker.pod, "OOMKilling", message, found.get(status.spec.name)
        )

    def _attempt_failed(self, report: Report) -> None:
        worker = self._workers.get(report.pod_uid)
        if worker is None or report.attempt is None:
            return
        self.context.journal.write(explaining.probed(report))
        pod = worker.pod
        container = next((c for c in pod.long_running if c.name == report.container), None)
        kind = report.kind.value.title()
        recorder = self.context.recorder
        match report.attempt:
            case Outcome.FAILURE:
                message = f"{kind} probe failed: {report.output}"
                recorder.warning(pod, "Unhealthy", message, container)
            case Outcome.WARNING:
                message = f"{kind} probe warning: {report.output}"
                recorder.warning(pod, "ProbeWarning", message, container)
            case Outcome.ERROR:
                message = f"{kind} probe errored: {report.output}"
                recorder.warning(pod, "Unhealthy", message, container)
            case Outcome.SUCCESS:
                pass

    def _seed_probes(self, pods: list[Pod]) -> None:
        for pod in pods:
            self.context.probes.expect(pod.uid)
            for status in pod_status.old_statuses(pod).values():
                if status.container_id:
                    self.context.probes.seed(
                        pod.uid,
                        status.name,
                        status.container_id,
                        ready=status.ready,
                        started=status.started,
                    )

    async def _remove_orphans(self, wanted: set[str]) -> None:
        for sandbox in await self.context.runtime.list_pod_sandboxes():
            if sandbox.spec.metadata.uid not in wanted:
                logger.info("removing sandbox %s: its pod is gone", sandbox.id)
                await self._remove_sandbox(SandboxId(sandbox.id))
        instance = self.context.instance
        for directory in (f"{instance.state_dir}/pods", f"{instance.run_dir}/pods"):
            for uid in os.listdir(directory) if os.path.isdir(directory) else ():
                if uid not in wanted:
                    PodDirectory(instance.state_dir, instance.run_dir, uid).remove()
        self.context.trash.sweep()

    async def _remove_sandbox(self, sandbox: SandboxId) -> None:
        """One that can't be removed (a process that hangs in the kernel) is left for the next start: the other pods are not to wait."""
        try:
            await self.context.runtime.stop_pod_sandbox(sandbox)
            await self.context.runtime.remove_pod_sandbox(sandbox)
        except (OSError, MinipodError):
            logger.exception("sandbox %s can't be removed", sandbox)
