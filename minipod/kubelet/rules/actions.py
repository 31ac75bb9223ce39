"""What a pod needs next: computePodActions (K8S kuberuntime_manager.go), with due times.

The original wakes up and looks whether a backoff is over; here the decision carries `wake_at`, the
time at which looking again makes sense, and nobody polls. Init containers and sidecars are in
`initialization`, kills in `kills`, policies and backoff in `restart`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from minipod.kubelet.rules import restart
from minipod.kubelet.rules.hashing import spec_hash
from minipod.kubelet.rules.initialization import InitStep, init_step
from minipod.kubelet.rules.kills import Kill, kill_for_round, kill_running, kill_unknown
from minipod.kubelet.rules.observed import Instance, Observed, ProbeResults, Sandbox, State
from minipod.kubelet.rules.phase import TERMINAL
from minipod.kubelet.rules.pods import Container, Pod, parse_time


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
    start_ephemeral: tuple[Container, ...] = ()
    start_init: tuple[Container, ...] = ()  # init containers and sidecars
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
    due = [waits.until for waits in actions.backing_off]
    if deadline is not None:
        due.append(deadline)
    return replace(actions, wake_at=min(due, default=None))


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


# -- a new sandbox


def _for_new_sandbox(pod: Pod, observed: Observed, reason: str, now: float) -> PodActions:
    newest = observed.sandbox
    attempt = 0 if newest is None else newest.attempt + 1
    why = {"sandbox": reason}
    wanted = pod.containers if newest is None else _unfinished(pod, observed)
    if newest is not None and not wanted and not _initializes_again(pod, observed, newest):
        return PodActions(kill_pod=True, why=why)
    base = PodActions(kill_pod=newest is not None, create_sandbox=True, attempt=attempt, why=why)
    if pod.init_containers:  # they begin anew, from the first
        return base
    return _with_starts(base, pod, observed, wanted, now)


def _unfinished(pod: Pod, observed: Observed) -> tuple[Container, ...]:
    """App containers that a new sandbox would start: not those whose policy says that they ended."""
    if not observed.containers:
        return pod.containers
    return tuple(
        c
        for c in pod.containers
        if restart.restarts_in_new_sandbox(pod, c, observed.newest(c.name))
    )


def _initializes_again(pod: Pod, observed: Observed, newest: Sandbox) -> bool:
    step = init_step(pod, observed, ProbeResults(), newest.id)
    return not step.done and not step.failed


# -- in the sandbox that is there


def _in_sandbox(pod: Pod, observed: Observed, probes: ProbeResults, now: float) -> PodActions:
    sandbox = observed.sandbox
    assert sandbox is not None
    began = restart.round_began(pod, observed)
    current = observed.since(began)
    base = PodActions(start_ephemeral=_ephemeral(pod, observed))
    leftovers = _of_last_round(pod, observed, began)
    if leftovers:
        return replace(base, kill=leftovers, why={"round": "all containers start anew"})
    step = init_step(pod, current, probes, sandbox.id)
    if step.failed:
        return PodActions(kill_pod=True, why={"init": f"{step.failed} failed"})
    base = replace(base, kill=tuple(step.kill), why={"init": _told(step)})
    wanted = tuple(step.start)
    if step.done:
        kills, apps, kept = _apps(pod, current, probes)
        if not kept and not apps:  # sidecars do not keep a pod alive
            return PodActions(kill_pod=True, why={"apps": "all ended"})
        base = replace(base, kill=base.kill + kills)
        wanted += apps
    return _with_starts(base, pod, observed, wanted, now)


def _of_last_round(pod: Pod, observed: Observed, began: float) -> tuple[Kill, ...]:
    containers = pod.init_containers + pod.containers
    return tuple(
        kill_for_round(c, i)
        for c in containers
        for i in observed.instances(c.name)
        if i.state in (State.RUNNING, State.UNKNOWN) and i.created_at < began
    )


def _ephemeral(pod: Pod, observed: Observed) -> tuple[Container, ...]:
    """Ephemeral containers run once; they need not wait for initialization."""
    return tuple(c for c in pod.ephemeral_containers if observed.newest(c.name) is None)


def _apps(
    pod: Pod, observed: Observed, probes: ProbeResults
) -> tuple[tuple[Kill, ...], tuple[Container, ...], int]:
    """(what must go, what must start, how many are well) of the app containers."""
    kills: list[Kill] = []
    wanted: list[Container] = []
    kept = 0
    for container in pod.containers:
        instance = observed.newest(container.name)
        if instance is None or instance.state is not State.RUNNING:
            if restart.should_restart(pod, container, instance):
                wanted.append(container)
                if instance is not None and instance.state is State.UNKNOWN:
                    kills.append(kill_unknown(container, instance))
            continue
        again = restart.restarts_after(pod, container, restart.KILLED)
        kill = kill_running(container, instance, probes, again=again)
        if kill is None:
            kept += 1
            continue
        kills.append(kill)
        if kill.again:
            wanted.append(container)
        else:
            kept += 1  # until it is dead
    return tuple(kills), tuple(wanted), kept


# -- backoff


def _with_starts(
    base: PodActions, pod: Pod, observed: Observed, wanted: Iterable[Container], now: float
) -> PodActions:
    """Split *wanted* into what may start now and what waits for its backoff."""
    curve = restart.curve_of(pod.annotations)
    ready: list[Container] = []
    waits: list[BackingOff] = []
    for container in wanted:
        off = _backing_off(container, observed.newest(container.name), now, curve)
        if off is None:
            ready.append(container)
        else:
            waits.append(off)
    inits = {c.name for c in pod.init_containers}
    return replace(
        base,
        start_init=tuple(c for c in ready if c.name in inits),
        start=tuple(c for c in ready if c.name not in inits),
        backing_off=tuple(waits),
        why={**base.why, "start": " ".join(c.name for c in ready)},
    )


def _backing_off(
    container: Container, instance: Instance | None, now: float, curve: restart.Curve
) -> BackingOff | None:
    if instance is None or instance.state is not State.EXITED:
        return None
    entry = restart.entry_of(instance, spec_hash(container))
    until = restart.backing_off_until(entry, instance.finished_at, now, curve)
    if entry is None or until is None:
        return None
    return BackingOff(container=container, until=until, delay=min(entry.delay, curve.maximum))


def _deadline(pod: Pod) -> float | None:
    start = parse_time(pod.status.get("startTime"))
    if pod.active_deadline_seconds is None or start is None:
        return None
    return start + pod.active_deadline_seconds


def _told(step: InitStep) -> str:
    if step.done:
        return "done"
    return " ".join(c.name for c in step.start) or "running"
