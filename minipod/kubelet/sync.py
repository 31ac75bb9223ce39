"""SyncPod: look, decide, act, in numbered steps, until the pod is as its spec wants it.

    observe -> rules.actions.compute -> kill, sandbox, init container, containers -> status
         ^------------- again after a step that changes what there is to decide ---------|

SyncPod (K8S pkg/kubelet/kubelet.go) and SyncPod of the runtime manager (pkg/kubelet/kuberuntime) are one here. Owns the waiting reasons of
one pod (reasonCache). Every return says when looking again makes sense; events of the runtime and the prober wake earlier.

Beside it, of one pod: `standing` (admitted, evicted, resized?), `volume_manager` (when volumes are made and follow), `starting` and
`stopping` (a container), `ahead` (the first container, before its turn), `retries` (when what failed is tried again).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from minipod.errors import FailedPrecondition, MinipodError
from minipod.kubelet import (
    ahead,
    explaining,
    pod_status,
    probing,
    runtime_class,
    translate,
)
from minipod.kubelet.addresses import pod_ip
from minipod.kubelet.remains import Remains, prune
from minipod.kubelet.retries import Retries
from minipod.kubelet.rules import amounts, conditions, dns, restart
from minipod.kubelet.rules.actions import PodActions, compute
from minipod.kubelet.rules.kills import Kill
from minipod.kubelet.rules.observed import State
from minipod.kubelet.rules.phase import TERMINAL
from minipod.kubelet.rules.pods import Role
from minipod.kubelet.rules.status import Waiting
from minipod.kubelet.standing import Standing
from minipod.kubelet.starting import Starter, StartFailed
from minipod.kubelet.stopping import Stop, Stopper
from minipod.kubelet.termination import Messages
from minipod.kubelet.volume_manager import VolumeManager
from minipod.kubelet.volumes import PodDirectory
from minipod.spec.ids import ContainerId

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.eviction import Eviction
    from minipod.kubelet.rules.observed import Observed
    from minipod.kubelet.rules.pods import Container, Pod
    from minipod.runtime.service import SandboxStatus

logger = logging.getLogger(__name__)

_MAX_STEPS = 20  # an init container each; then the rest waits for the next wake-up


class PodSync:
    """The sync steps of one pod."""

    def __init__(self, context: Context, uid: str) -> None:
        self._context = context
        instance = context.instance
        self.directory = PodDirectory(instance.state_dir, instance.run_dir, uid, context.spares)
        self._volumes = VolumeManager(context, self.directory)
        self.remains = Remains(context, self.directory)
        self.stopper = Stopper(context)
        self._starter = Starter(context, self.directory, self.stopper)
        self._reasons: dict[str, Waiting] = {}  # why a container waits, by its name
        self.messages = Messages()
        self._retries = Retries(context)
        self._standing = Standing(context, self.stopper)
        self._sized_for: object = None  # the amounts that were compared last
        self._interrupted = False
        self._untold = False  # something has started since the last word about the pod

    def interrupt(self) -> None:
        """A termination waits: end long waits, begin nothing new; what is being built is finished."""
        self._interrupted = True
        self._starter.interrupt()

    def evict(self, eviction: Eviction) -> None:
        """The pod must go; the next sync ends it. An image pull does not hold it up."""
        self._standing.evict(eviction)
        self._starter.interrupt()

    def objects_changed(self) -> None:
        """An object that the pod refers to changed: its volumes must follow."""
        self._volumes.objects_changed()

    async def sync(self, pod: Pod) -> float | None:
        """Bring the pod to where it should be; return when to look again."""
        try:
            return await self._sync(pod)
        finally:
            await self._starter.ahead.give_up()

    # -- one sync, from the top

    async def _sync(self, pod: Pod) -> float | None:
        self._retries.clear()
        self._volumes.forget_begun()
        wake_at = None
        if not self._standing.admitted(self.current(pod)):
            if self._standing.failed is not None:  # else it waits, and has no start time yet
                self.publish(pod, await self.observe(pod))
            return None
        if self._standing.eviction is not None:
            await self._end_evicted(pod, self._standing.eviction)
            return None
        self._standing.settle(pod)
        await self._refresh_volumes(pod)
        await self._resize(self.current(pod))
        for _ in range(_MAX_STEPS):
            if self._interrupted:
                return None
            pod = self.current(pod)
            observed = await self.observe(pod)
            probes = self._context.probes.results(pod.uid)
            actions = compute(pod, observed, probes, self._context.clock())
            for record in explaining.decided(pod, observed, actions, self._context.clock()):
                self._context.journal.write(record)
            wake_at = actions.wake_at
            if not await self._step(pod, observed, actions):
                break
            self.publish(pod, await self.observe(pod), soon=False)
        observed = await self.observe(pod)
        if self.publish(pod, observed) in TERMINAL:
            await self.remains.clear(observed, None)
        await prune(self._context, self.messages, pod, observed)
        due = (wake_at, self._retries.due, self._volumes.refresh_at)
        return min((t for t in due if t is not None), default=None)

    async def _step(self, pod: Pod, observed: Observed, actions: PodActions) -> bool:
        """Do what was decided; True when there may be more to decide."""
        # narration
        # 1. A pod that is over, or whose sandbox changed: everything of it stops.
        if actions.failed is not None:
            self._standing.failed = actions.failed
        if actions.kill_pod and observed.anything_alive:
            await self._kill_pod(pod, observed, actions)
        # 2. Containers that must go.
        if actions.kill:
            await self._kill(pod, observed, actions.kill)
            if not any(kill.cause == "changed" for kill in actions.kill):
                return True
        # 3. Who waits for a backoff says so.
        self._note_backoff(pod, actions)
        # 4. The sandbox; the pod's address is decided here.
        if actions.create_sandbox:
            return await self._create_sandbox(pod, actions)
        # 5. Ephemeral containers, which wait for nothing.
        await self._start_each(pod, actions.start_ephemeral)
        # 6. Init containers: a sidecar that has started lets the next one start, too.
        began = await self._start_each(pod, actions.start_init)
        # 7. App containers in spec order; each start waits for its postStart.
        await self._start_each(pod, actions.start)
        return any(container.is_sidecar for container in began)

    async def _refresh_volumes(self, pod: Pod) -> None:
        """Bring what running containers have mounted up to date."""
        if not self._volumes.is_outdated(pod):
            return
        if not (observed := await self.observe(pod)).anything_alive:
            return
        try:
            await self._volumes.refresh(pod, observed)
        except FailedPrecondition as error:
            self._held_up(pod, "FailedMount", error)

    async def _resize(self, pod: Pod) -> None:
        wanted = amounts.of_pod(pod)
        if wanted == self._sized_for:
            return  # granted is what was granted at the last look
        observed = await self.observe(pod)
        if observed.anything_alive:
            ip = pod_ip(pod, observed.sandbox, self._context)
            if not await self._standing.resize(pod, observed, ip):
                self._retries.after_error()
                return
        self._sized_for = wanted

    async def _end_evicted(self, pod: Pod, eviction: Eviction) -> None:
        if self._standing.failed == (eviction.reason, eviction.message):
            self.publish(pod, await self.observe(pod))
            return
        self._standing.failed = (eviction.reason, eviction.message)
        self._context.recorder.warning(pod, eviction.reason, eviction.message)
        observed = await self.observe(pod)
        grace = float(pod.termination_grace_period_seconds)
        stop = Stop(grace=grace if eviction.grace is None else eviction.grace)
        await self.stopper.stop_pod(pod, observed, stop)
        observed = await self.observe(pod)
        self.publish(pod, observed)
        await self.remains.clear(observed, eviction)

    async def _kill_pod(self, pod: Pod, observed: Observed, actions: PodActions) -> None:
        if actions.create_sandbox:
            message = "Pod sandbox changed, it will be killed and re-created."
            self._context.recorder.normal(pod, "SandboxChanged", message)
        grace = float(pod.termination_grace_period_seconds)
        await self.stopper.stop_pod(pod, observed, Stop(grace=grace))

    async def _kill(self, pod: Pod, observed: Observed, kills: tuple[Kill, ...]) -> None:
        ip = pod_ip(pod, observed.sandbox, self._context)
        async with asyncio.TaskGroup() as group:
            for kill in kills:
                grace = pod.termination_grace_period_seconds if kill.grace is None else kill.grace
                stop = Stop(grace=float(grace), message=kill.message)
                group.create_task(
                    self.stopper.stop_container(pod, kill.container, kill.container_id, ip, stop)
                )

    def _note_backoff(self, pod: Pod, actions: PodActions) -> None:
        for waits in actions.backing_off:
            name = waits.container.name
            message = restart.message(name, pod.full_name, waits.delay)
            shown = Waiting(reason="CrashLoopBackOff", message=message)
            if self._reasons.get(name) != shown:
                text = "Back-off restarting failed container"
                self._context.recorder.warning(pod, "BackOff", text, waits.container)
            self._reasons[name] = shown

    async def _create_sandbox(self, pod: Pod, actions: PodActions) -> bool:
        context = self._context
        resolver = dns.pod_dns(pod, context.cluster, context.host_dns())
        log_directory = translate.pod_log_directory(context.instance.log_dir, pod)
        context.spares.make_directory(log_directory, 0o755)
        try:
            await runtime_class.check_handler(context, pod)
            await self._volumes.begin(pod)
            spec = translate.sandbox_spec(
                pod,
                attempt=actions.attempt,
                hostname=dns.hostname(pod, context.machine.node_name, context.cluster.domain),
                log_directory=log_directory,
                dns=resolver.config,
                userns=self.directory.userns,
            )
            await context.runtime.run_pod_sandbox(
                spec, lambda begun: self._starter.ahead.begin(self._set_up_first(pod, begun))
            )
        except FailedPrecondition as error:
            self._held_up(pod, "FailedMount", error)
            return False
        except MinipodError as error:
            self._held_up(pod, "FailedCreatePodSandBox", error)
            return False
        finally:  # behind what others wait for
            for reason, message in resolver.warnings:
                context.recorder.warning(pod, reason, message)
        self._volumes.write_hosts(pod, await self.observe(pod))
        return True

    async def _set_up_first(self, pod: Pod, begun: SandboxStatus) -> ahead.Made | None:
        """Meanwhile: create what will start first."""
        observed = ahead.as_if_ready(await self.observe(pod), begun)
        probes = self._context.probes.results(pod.uid)
        container = ahead.first(compute(pod, observed, probes, self._context.clock()))
        if container is None:
            return None
        self._volumes.write_hosts(pod, observed)
        attempt = self._starter.attempt(pod, container, observed, self._volumes.begun)
        return await self._starter.set_up_ahead(attempt)

    async def _start_each(self, pod: Pod, containers: tuple[Container, ...]) -> list[Container]:
        """Start one after another; return those that started. A failed sidecar stops no other."""
        began = []
        for container in containers:
            if self._interrupted:
                break
            if self._untold:
                self.publish(pod, await self.observe(pod), soon=False)
            if await self._start(pod, container, await self.observe(pod)):
                began.append(container)
                self._untold = True  # until the next one starts, or the step is over
            elif container.role is Role.INIT and not container.is_sidecar:
                break
        return began

    async def _start(self, pod: Pod, container: Container, observed: Observed) -> bool:
        try:
            volumes = await self._volumes.take(pod, observed)
            await self._remove_parked(container, observed)
            await self._starter.start(self._starter.attempt(pod, container, observed, volumes))
        except StartFailed as error:
            self._reasons[container.name] = error.waiting
            reason, message, now = (
                error.waiting.reason,
                error.waiting.message,
                self._context.clock(),
            )
            self._context.journal.write(
                explaining.not_started(pod, container, reason, message, now)
            )
            pull_due = self._starter.puller.retry_at(container.image)
            self._retries.after_failed_start(error.waiting, pull_due)
            return False
        except FailedPrecondition as error:
            self._held_up(pod, "FailedMount", error)
            return False
        self._reasons.pop(container.name, None)
        return True

    async def _remove_parked(self, container: Container, observed: Observed) -> None:
        """An instance that was created and never started: a kubelet died in between."""
        newest = observed.newest(container.name)
        if newest is not None and newest.state is State.CREATED:
            await self._context.runtime.remove_container(ContainerId(newest.id))

    def _held_up(self, pod: Pod, reason: str, error: MinipodError) -> None:
        logger.warning("pod %s: %s: %s", pod.full_name, reason, error)
        words = error.message
        if reason == "FailedCreatePodSandBox":
            words = f"Failed to create pod sandbox: {words}"
        self._context.recorder.warning(pod, reason, words)
        self._context.journal.write(explaining.held_up(pod, reason, words, self._context.clock()))
        self._retries.after_error()

    # -- what is known, and told

    def current(self, pod: Pod) -> Pod:
        """The pod with what it was granted and its newest status, written or not; the store's may lag behind."""
        pod = self._standing.granted(pod)
        newest = self._context.statuses.get(pod.uid)
        if newest is None:
            return pod
        stored = pod.status.get("conditions") or ()
        joined = conditions.joined(newest.get("conditions") or (), stored)
        return replace(pod, status={**newest, "conditions": joined})

    async def observe(self, pod: Pod) -> Observed:
        """What the runtime says now."""
        runtime = self._context.runtime
        sandboxes = await runtime.list_pod_sandboxes(pod.uid)
        containers = await runtime.list_containers(pod.uid)
        for status in containers:
            self.messages.read(status)
        observed = translate.observed(sandboxes, containers, self.messages.texts)
        return self._starter.ahead.unseen(observed)

    def publish(
        self, pod: Pod, observed: Observed, *, ended: bool = False, soon: bool = True
    ) -> str:
        """Tell the probes and the status manager; return the phase. *soon* False: the next step may change it at once."""
        context = self._context
        self._untold = False
        pod = self.current(pod)
        ip = pod_ip(pod, observed.sandbox, context)
        context.probes.set_pod(pod.uid, probing.targets(pod, observed, ip))
        verdict = pod_status.Verdict(
            failed=self._standing.failed,
            ended=ended,
            conditions=self._standing.conditions(pod, observed),
        )
        status = pod_status.generate(pod, observed, self._reasons, context, verdict)
        context.statuses.set(pod, status, soon=soon)
        if status["phase"] in TERMINAL:
            context.admission.release(pod.uid)
        return str(status["phase"])
