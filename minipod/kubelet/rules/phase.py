"""The pod's phase: getPhase (K8S pkg/kubelet/kubelet_pods.go), with sidecars (1.29) and container
policies (KEP-5307)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minipod.kubelet.rules import restart
from minipod.kubelet.rules.status import ContainerStatus, Running, Terminated, Waiting

if TYPE_CHECKING:
    from minipod.kubelet.rules.pods import Container, Pod

TERMINAL = frozenset(("Succeeded", "Failed"))
_Statuses = Mapping[str, ContainerStatus]


@dataclass(slots=True)
class _Count:
    """How many containers are in which state."""

    unknown: int = 0
    running: int = 0
    waiting: int = 0
    stopped: int = 0
    succeeded: int = 0
    restarting: int = 0  # of those that stopped


def get_phase(pod: Pod, statuses: Iterable[ContainerStatus]) -> str:
    """The phase that *statuses* (init and app containers) mean; stickiness is `sticky_phase`."""
    by_name = {status.name: status for status in statuses}
    pending, failed = _count_init(pod, by_name)
    count = _Count()
    pending_sidecars = _count_sidecars(pod, by_name, count)
    _count_apps(pod, by_name, count)
    if failed:
        return "Failed"
    if pending or count.waiting or (pending_sidecars and not _began(pod, by_name)):
        return "Pending"
    if count.running and not count.unknown:
        return "Running"
    if not count.running and count.stopped and not count.unknown:
        if count.restarting:
            return "Running"
        return "Succeeded" if count.stopped == count.succeeded else "Failed"
    return "Pending"


def sticky_phase(previous: str, computed: str) -> str:
    """A terminal phase never changes again, whatever the runtime says (generateAPIPodStatus)."""
    return previous if previous in TERMINAL else computed


def final_phase(pod: Pod, statuses: Iterable[ContainerStatus]) -> str:
    """The phase of a pod that has been ended: terminal irrespective of policy (1.27 and newer).

    How a sidecar ended does not count.
    """
    by_name = {status.name: status for status in statuses}
    counted = [c for c in pod.init_containers if not c.is_sidecar] + list(pod.containers)
    codes = [
        status.state.exit_code if isinstance(status.state, Terminated) else 1
        for c in counted
        if (status := by_name.get(c.name)) is not None
    ]
    return "Succeeded" if codes and not any(codes) else "Failed"


def _began(pod: Pod, by_name: _Statuses) -> bool:
    """Whether an app container ever ran: a sidecar that restarts does not make the pod Pending."""
    found = (by_name.get(c.name) for c in pod.containers)
    return any(s is not None and not _waits_for_the_first_time(s) for s in found)


def _waits_for_the_first_time(status: ContainerStatus) -> bool:
    return isinstance(status.state, Waiting) and status.last is None


def _ended(status: ContainerStatus | None) -> Terminated | None:
    """How the container last ended, unless it runs."""
    if status is None or isinstance(status.state, Running):
        return None
    return status.last if isinstance(status.state, Waiting) else status.state


def _count_init(pod: Pod, by_name: _Statuses) -> tuple[int, int]:
    """(pending, failed for good) of the init containers that are no sidecars; one that failed and
    will be tried again counts nowhere, the waiting app containers keep the pod Pending."""
    pending = failed = 0
    for container in pod.init_containers:
        if container.is_sidecar:
            continue
        ended = _ended(by_name.get(container.name))
        if ended is None:
            pending += 1
        elif ended.exit_code:
            failed += not restart.restarts_after(pod, container, ended.exit_code)
    return pending, failed


def _count_sidecars(pod: Pod, by_name: _Statuses, count: _Count) -> int:
    """Count them in, and return how many have not started; those that ended count nowhere."""
    pending = 0
    for container in pod.sidecars:
        status = by_name.get(container.name)
        match status.state if status is not None else None:
            case Running():
                count.running += 1
                pending += status is not None and not status.started
            case Terminated():
                pass
            case Waiting():
                if status is not None and status.last is None:
                    pending += 1
                    count.waiting += 1
            case _:
                pending += 1
                count.unknown += 1
    return pending


def _count_apps(pod: Pod, by_name: _Statuses, count: _Count) -> None:
    for container in pod.containers:
        status = by_name.get(container.name)
        if status is None:
            count.unknown += 1
        elif isinstance(status.state, Running):
            count.running += 1
        else:
            _count_stopped(pod, container, status, count)


def _count_stopped(pod: Pod, container: Container, status: ContainerStatus, count: _Count) -> None:
    ended = _ended(status)
    if ended is None:
        count.waiting += 1
        return
    count.stopped += 1  # CrashLoopBackOff counts as stopped
    count.succeeded += isinstance(status.state, Terminated) and ended.exit_code == 0
    count.restarting += restart.restarts_after(pod, container, ended.exit_code)
