"""What a pod needs next: computePodActions (K8S kuberuntime_manager.go, 1.20.2), with due times.

The original wakes up and looks whether a backoff is over; here the decision carries `wake_at`, the
time at which looking again makes sense, and nobody polls.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from minipod.kubelet.rules import restart
from minipod.kubelet.rules.hashing import spec_hash
from minipod.kubelet.rules.observed import Instance, Observed, ProbeResults, Sandbox, State
from minipod.kubelet.rules.phase import TERMINAL
from minipod.kubelet.rules.pods import Container, Pod, parse_time
from minipod.kubelet.rules.probe import ProbeResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Kill one instance; *message* is the Killing event's, *cause* one word for logs."""

    container: Container
    container_id: str
    message: str
    cause: str
    grace: int | None = None  # a probe's own grace period


@dataclass(frozen=True, slots=True, kw_only=True)
class BackingOff:
    """A container that waits for its backoff to end."""

    container: Container
    until: float
    delay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PodActions:
    """What SyncPod does, in this order."""

    kill_pod: bool = False
    create_sandbox: bool = False
    attempt: int = 0
    kill: tuple[Kill, ...] = ()
    next_init: Container | None = None
    start: tuple[Container, ...] = ()
    backing_off: tuple[BackingOff, ...] = ()
    failed: tuple[str, str] | None = None  # (reason, message): the pod fails as a whole
    wake_at: float | None = None
    why: dict[str, str] = field(default_factory=dict)


DEADLINE = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")


def compute(pod: Pod, observed: Observed, probes: ProbeResults, now: float) -> PodActions:
    """Decide; change nothing."""
    if pod.deleting or pod.status.get("phase") in TERMINAL:
        return PodActions(kill_pod=True, why={"pod": "ended"})
    deadline = _deadline(pod)
    if deadline is not None and now >= deadline:
        return PodActions(kill_pod=True, failed=DEADLINE, why={"deadline": str(deadline)})
    reason = sandbox_change(pod, observed)
    if reason:  # noqa: SIM108 two lines of equal weight
        actions = _for_new_sandbox(pod, observed, reason, now)
    else:
        actions = _in_sandbox(pod, observed, probes, now)
    return _with_wake(actions, deadline)


def sandbox_change(pod: Pod, observed: Observed) -> str:
    """Why a new sandbox is needed, or "" (podSandboxChanged)."""
    newest = observed.sandbox
    if newest is None:
        return "no sandbox"
    if sum(s.ready for s in observed.sandboxes) > 1:
        return "more than one ready sandbox"
    if not newest.ready:
        return "sandbox not ready"
    if newest.host_network != pod.host_network:
        return "network namespace changed"
    if not pod.host_network and not newest.ips:
        return "sandbox without address"
    return ""


def next_init_container(
    pod: Pod, observed: Observed, sandbox: Sandbox
) -> tuple[Instance | None, Container | None, bool]:
    """(last failed instance, the one to start, done); findNextInitContainerToRun."""
    if not pod.init_containers or _initialized(pod, observed, sandbox):
        return None, None, True
    found = [(c, observed.newest(c.name, sandbox.id)) for c in pod.init_containers]
    for container, instance in reversed(found):
        if instance is not None and instance.failed:
            return instance, container, False
    for index in range(len(found) - 1, -1, -1):
        container, instance = found[index]
        if instance is None:
            continue
        if instance.state is State.RUNNING:
            return None, None, False
        if instance.succeeded:
            last = index == len(found) - 1
            return None, None if last else pod.init_containers[index + 1], last
        return None, container, False  # created, never started
    return None, pod.init_containers[0], False


def _initialized(pod: Pod, observed: Observed, sandbox: Sandbox) -> bool:
    """An app container that ever ran in this sandbox proves that initialization is over."""
    newest = (observed.newest(c.name, sandbox.id) for c in pod.containers)
    return any(i is not None and i.started_at > 0 for i in newest)


def _for_new_sandbox(pod: Pod, observed: Observed, reason: str, now: float) -> PodActions:
    newest = observed.sandbox
    attempt = 0 if newest is None else newest.attempt + 1
    why = {"sandbox": reason}
    if pod.restart_policy == "Never" and attempt and observed.containers:
        return PodActions(kill_pod=True, why=why)
    if newest is not None and not _something_left(pod, observed, newest):
        return PodActions(kill_pod=True, why=why)
    base = PodActions(kill_pod=newest is not None, create_sandbox=True, attempt=attempt, why=why)
    return (
        base
        if pod.init_containers
        else _starts(base, pod, observed, _unfinished(pod, observed), now)
    )


def _something_left(pod: Pod, observed: Observed, newest: Sandbox) -> bool:
    if _unfinished(pod, observed):
        return True
    return not next_init_container(pod, observed, newest)[2]


def _unfinished(pod: Pod, observed: Observed) -> tuple[Container, ...]:
    """App containers that a new sandbox would start: with OnFailure not those that succeeded."""
    if pod.restart_policy != "OnFailure":
        return pod.containers
    newest = ((c, observed.newest(c.name)) for c in pod.containers)
    return tuple(c for c, i in newest if i is None or not i.succeeded)


def _in_sandbox(pod: Pod, observed: Observed, probes: ProbeResults, now: float) -> PodActions:
    sandbox = observed.sandbox
    assert sandbox is not None
    failed, following, done = next_init_container(pod, observed, sandbox)
    if not done:
        return _init_step(pod, failed, following, now)
    return _app_step(pod, observed, probes, now)


def _init_step(
    pod: Pod, failed: Instance | None, following: Container | None, now: float
) -> PodActions:
    if following is None:
        return PodActions(why={"init": "running"})
    if failed is not None and pod.restart_policy == "Never":
        return PodActions(kill_pod=True, why={"init": f"{following.name} failed"})
    waits = _backing_off(following, failed, now)
    if waits is not None:
        return PodActions(backing_off=(waits,), why={"init": f"{following.name} backs off"})
    kill: tuple[Kill, ...] = ()
    if failed is not None and failed.state is State.UNKNOWN:
        kill = (_kill_unknown(following, failed, init=True),)
    return PodActions(next_init=following, kill=kill, why={"init": following.name})


def _app_step(pod: Pod, observed: Observed, probes: ProbeResults, now: float) -> PodActions:
    kills: list[Kill] = []
    wanted: list[Container] = []
    kept = 0
    for container in pod.containers:
        instance = observed.newest(container.name)
        if instance is None or instance.state is not State.RUNNING:
            if restart.should_restart(pod.restart_policy, instance, deleting=pod.deleting):
                wanted.append(container)
                if instance is not None and instance.state is State.UNKNOWN:
                    kills.append(_kill_unknown(container, instance, init=False))
            continue
        kill, again = _kill_running(pod, container, instance, probes)
        if kill is None:
            kept += 1
            continue
        kills.append(kill)
        if again:
            wanted.append(container)
    base = PodActions(kill=tuple(kills), kill_pod=not kept and not wanted)
    return _starts(base, pod, observed, tuple(wanted), now)


def _kill_running(
    pod: Pod, container: Container, instance: Instance, probes: ProbeResults
) -> tuple[Kill | None, bool]:
    again = pod.restart_policy != "Never"
    grace = None
    if instance.spec_hash and instance.spec_hash != spec_hash(container):
        again, what, cause = True, "definition changed", "changed"
    elif probes.liveness.get(instance.id) is ProbeResult.FAILURE and container.liveness_probe:
        what, cause = "failed liveness probe", "liveness"
        grace = container.liveness_probe.termination_grace_period_seconds
    elif probes.startup.get(instance.id) is ProbeResult.FAILURE and container.startup_probe:
        what, cause = "failed startup probe", "startup"
        grace = container.startup_probe.termination_grace_period_seconds
    else:
        return None, False
    message = f"Container {container.name} {what}" + (", will be restarted" if again else "")
    kill = Kill(
        container=container, container_id=instance.id, message=message, cause=cause, grace=grace
    )
    return kill, again


def _kill_unknown(container: Container, instance: Instance, *, init: bool) -> Kill:
    kind = "Init container" if init else "Container"
    return Kill(
        container=container,
        container_id=instance.id,
        message=f"{kind} is in 'Unknown' state, try killing it before restart",
        cause="unknown",
    )


def _starts(
    base: PodActions,
    pod: Pod,
    observed: Observed,
    wanted: tuple[Container, ...],
    now: float,
) -> PodActions:
    """Split *wanted* into what may start now and what waits for its backoff."""
    waits = {c.name: w for c in wanted if (w := _backing_off(c, observed.newest(c.name), now))}
    return PodActions(
        kill_pod=base.kill_pod,
        create_sandbox=base.create_sandbox,
        attempt=base.attempt,
        kill=base.kill,
        start=tuple(c for c in wanted if c.name not in waits),
        backing_off=tuple(waits.values()),
        why={**base.why, "start": " ".join(c.name for c in wanted if c.name not in waits)},
    )


def _backing_off(container: Container, instance: Instance | None, now: float) -> BackingOff | None:
    if instance is None or instance.state is not State.EXITED:
        return None
    entry = restart.entry_of(instance, spec_hash(container))
    until = restart.backing_off_until(entry, instance.finished_at, now)
    if entry is None or until is None:
        return None
    return BackingOff(container=container, until=until, delay=entry.delay)


def _deadline(pod: Pod) -> float | None:
    start = parse_time(pod.status.get("startTime"))
    if pod.active_deadline_seconds is None or start is None:
        return None
    return start + pod.active_deadline_seconds


def _with_wake(actions: PodActions, deadline: float | None) -> PodActions:
    due = [w.until for w in actions.backing_off] + ([] if deadline is None else [deadline])
    return PodActions(
        kill_pod=actions.kill_pod,
        create_sandbox=actions.create_sandbox,
        attempt=actions.attempt,
        kill=actions.kill,
        next_init=actions.next_init,
        start=actions.start,
        backing_off=actions.backing_off,
        failed=actions.failed,
        wake_at=min(due, default=None),
        why=actions.why,
    )
