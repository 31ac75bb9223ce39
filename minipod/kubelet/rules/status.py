"""Container statuses: convertToAPIContainerStatuses (K8S pkg/kubelet/kubelet_pods.go).

The newest instance is `state`, the one before `lastState`; a container that waits for its next
start shows why (the reasons of the last sync), and its end moves to `lastState`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from minipod.kubelet.rules import amounts, restart
from minipod.kubelet.rules.observed import Instance, Observed, ProbeResults, State
from minipod.kubelet.rules.pods import Role
from minipod.kubelet.rules.probe import ProbeResult

if TYPE_CHECKING:
    from minipod.kubelet.rules.pods import Container, Pod, Raw

MESSAGES_LIMIT = 12288  # bytes, of all termination messages of a pod
_NOT_LOCATED = "The container could not be located when the pod was terminated"
_LOST = (
    "The container could not be located when the pod was deleted.  The container used to be Running"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    started_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminated:
    exit_code: int
    reason: str = ""
    message: str = ""
    signal: int = 0
    started_at: float = 0.0
    finished_at: float = 0.0
    container_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStatus:
    """One entry of status.containerStatuses."""

    name: str
    state: Waiting | Running | Terminated
    last: Terminated | None = None
    ready: bool = False
    started: bool = False
    restart_count: int = 0
    image: str = ""
    image_id: str = ""
    container_id: str = ""
    allocated: Raw | None = None  # requests that were granted; None: it does not run
    resources: Raw | None = None  # limits and requests that are in force


Reasons = Mapping[str, Waiting]  # container name -> why it does not run, from the last sync
Old = Mapping[str, ContainerStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Everything a status is made from, beside the pod."""

    observed: Observed
    probes: ProbeResults = field(default_factory=ProbeResults)
    reasons: Reasons = field(default_factory=dict)
    old: Old = field(default_factory=dict)


def init_statuses(pod: Pod, known: Known) -> tuple[ContainerStatus, ...]:
    """status.initContainerStatuses: ready means that it ended well; a sidecar is like an app."""
    statuses = ((c, _status(pod, c, known)) for c in pod.init_containers)
    return tuple(
        _with_probes(c, s, known.probes)
        if c.is_sidecar
        else replace(s, ready=isinstance(s.state, Terminated) and s.state.exit_code == 0)
        for c, s in statuses
    )


def app_statuses(pod: Pod, known: Known) -> tuple[ContainerStatus, ...]:
    """status.containerStatuses with readiness from the probes."""
    statuses = ((c, _status(pod, c, known)) for c in pod.containers)
    return tuple(_with_probes(c, s, known.probes) for c, s in statuses)


def ephemeral_statuses(pod: Pod, known: Known) -> tuple[ContainerStatus, ...]:
    """status.ephemeralContainerStatuses: they have no probes and are never ready."""
    return tuple(_status(pod, c, known) for c in pod.ephemeral_containers)


def ended_statuses(
    init: tuple[ContainerStatus, ...], apps: tuple[ContainerStatus, ...]
) -> tuple[tuple[ContainerStatus, ...], tuple[ContainerStatus, ...]]:
    """The last word about a pod that was ended (TerminatePod, K8S status_manager.go): who is not known to
    have ended has ended unknown, but for what never had its turn."""
    started = [index for index, s in enumerate(init) if _has_run(s)]
    last = max(started, default=-1)
    if any(_has_run(s) for s in apps):
        apps, last = tuple(map(_ended_unknown, apps)), len(init)
    return tuple(_ended_unknown(s) if n <= last else s for n, s in enumerate(init)), apps


def cut_messages(statuses: tuple[ContainerStatus, ...], limit: int) -> tuple[ContainerStatus, ...]:
    """With termination messages of at most *limit* bytes (normalizeStatus, K8S status_manager.go)."""
    return tuple(
        replace(
            s,
            state=_cut(s.state, limit) if isinstance(s.state, Terminated) else s.state,
            last=None if s.last is None else _cut(s.last, limit),
        )
        for s in statuses
    )


def _cut(ended: Terminated, limit: int) -> Terminated:
    octets = ended.message.encode()
    if len(octets) <= limit:
        return ended
    return replace(ended, message=octets[:limit].decode(errors="ignore"))


def _has_run(status: ContainerStatus) -> bool:
    return bool(status.container_id) or not isinstance(status.state, Waiting)


def _ended_unknown(status: ContainerStatus) -> ContainerStatus:
    if isinstance(status.state, Terminated):
        return status
    unknown = Terminated(exit_code=137, reason="ContainerStatusUnknown", message=_NOT_LOCATED)
    return replace(status, state=unknown, ready=False, started=False)


def end_of(instance: Instance) -> Terminated:
    """How an instance that does not run ended."""
    if instance.state is State.UNKNOWN:
        return Terminated(
            exit_code=137,
            reason="ContainerStatusUnknown",
            message=_NOT_LOCATED,
            started_at=instance.started_at,
            finished_at=instance.finished_at,
            container_id=instance.id,
        )
    return Terminated(
        exit_code=instance.exit_code,
        signal=instance.signal,
        reason=instance.reason or ("Error" if instance.exit_code else "Completed"),
        message=instance.message,
        started_at=instance.started_at,
        finished_at=instance.finished_at,
        container_id=instance.id,
    )


def _status(pod: Pod, container: Container, known: Known) -> ContainerStatus:
    status = _default(pod, container, known)
    seen = known.observed.instances(container.name)
    newest = seen[0] if seen else None
    if newest is None:
        status = _lost(pod, status, known.old.get(container.name))
    else:
        status = _from_instance(container, newest, status)
        ended = next((i for i in seen[1:] if i.state in (State.EXITED, State.UNKNOWN)), None)
        status = replace(status, last=end_of(ended) if ended is not None else status.last)
    reason = known.reasons.get(container.name)
    if reason is not None and restart.should_restart(pod, container, newest):
        last = status.state if isinstance(status.state, Terminated) else status.last
        status = replace(status, state=reason, last=last)
    return status


def _default(pod: Pod, container: Container, known: Known) -> ContainerStatus:
    old = known.old.get(container.name)
    if old is not None and isinstance(old.state, Terminated):
        return old
    # The init containers of a pod with init containers show PodInitializing too, as in 1.20.
    initializing = pod.init_containers and container.role is not Role.EPHEMERAL
    return ContainerStatus(
        name=container.name,
        image=container.image,
        state=Waiting(reason="PodInitializing" if initializing else "ContainerCreating"),
        last=old.last if old is not None else None,
        restart_count=old.restart_count if old is not None else 0,
    )


def _lost(pod: Pod, status: ContainerStatus, old: ContainerStatus | None) -> ContainerStatus:
    """A container that ran when it was last seen, and that the runtime no longer knows (a reboot):
    it has ended, nobody knows how; else the pod would fall back to Pending."""
    if old is None or not isinstance(old.state, Running) or status.last is not None:
        return status
    last = Terminated(exit_code=137, reason="ContainerStatusUnknown", message=_LOST)
    again = 0 if pod.deleting else 1
    return replace(status, last=last, restart_count=status.restart_count + again)


def _from_instance(
    container: Container, instance: Instance, default: ContainerStatus
) -> ContainerStatus:
    state: Waiting | Running | Terminated
    if instance.state is State.RUNNING:
        state = Running(started_at=instance.started_at)
    elif instance.state is State.CREATED:
        # Between create and start (or its postStart hook): not running yet for the outside.
        word = default.state.reason if isinstance(default.state, Waiting) else "ContainerCreating"
        state = Waiting(reason=word)
    else:
        state = end_of(instance)
    runs = instance.state is State.RUNNING and container.role is not Role.EPHEMERAL
    return ContainerStatus(
        name=container.name,
        state=state,
        allocated=container.requests if runs else None,
        resources=amounts.actual(container, instance.resources) if runs else None,
        last=default.last,
        restart_count=instance.restart_count,
        image=instance.image or container.image,
        image_id=instance.image_id,
        container_id=instance.id,
    )


def _with_probes(
    container: Container, status: ContainerStatus, probes: ProbeResults
) -> ContainerStatus:
    if not isinstance(status.state, Running):
        return status
    started = _passed(container.startup_probe is not None, probes.startup, status.container_id)
    ready = started and _passed(
        container.readiness_probe is not None, probes.readiness, status.container_id
    )
    return replace(status, started=started, ready=ready)


def _passed(exists: bool, results: Mapping[str, ProbeResult], container_id: str) -> bool:
    return not exists or results.get(container_id) is ProbeResult.SUCCESS
