"""The pod's phase: getPhase (K8S pkg/kubelet/kubelet_pods.go), exactly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from minipod.kubelet.rules.status import ContainerStatus, Running, Terminated, Waiting

if TYPE_CHECKING:
    from minipod.kubelet.rules.pods import Container, Pod

TERMINAL = frozenset(("Succeeded", "Failed"))
_Statuses = Mapping[str, ContainerStatus]


def get_phase(pod: Pod, statuses: Iterable[ContainerStatus]) -> str:
    """The phase that *statuses* (init and app containers) mean; stickiness is `sticky_phase`."""
    by_name = {status.name: status for status in statuses}
    pending, failed = _count_init(pod.init_containers, by_name)
    unknown, running, waiting, stopped, succeeded = _count_apps(pod.containers, by_name)
    if failed and pod.restart_policy == "Never":
        return "Failed"
    if pending or waiting:
        return "Pending"
    if running and not unknown:
        return "Running"
    if not running and stopped and not unknown:
        return _all_stopped(pod.restart_policy, everything_succeeded=stopped == succeeded)
    return "Pending"


def sticky_phase(previous: str, computed: str) -> str:
    """A terminal phase never changes again, whatever the runtime says (generateAPIPodStatus)."""
    return previous if previous in TERMINAL else computed


def final_phase(pod: Pod, statuses: Iterable[ContainerStatus]) -> str:
    """The phase of a pod that has been ended: terminal irrespective of policy (1.27 and newer)."""
    by_name = {status.name: status for status in statuses}
    codes = [
        status.state.exit_code if isinstance(status.state, Terminated) else 1
        for c in pod.all_containers
        if (status := by_name.get(c.name)) is not None
    ]
    return "Succeeded" if codes and not any(codes) else "Failed"


def _all_stopped(policy: str, *, everything_succeeded: bool) -> str:
    if policy == "Always":
        return "Running"
    if everything_succeeded:
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"  # OnFailure: being restarted


def _count_init(containers: Iterable[Container], by_name: _Statuses) -> tuple[int, int]:
    pending = failed = 0
    for container in containers:
        status = by_name.get(container.name)
        ended = None
        if status is not None and not isinstance(status.state, Running):
            ended = status.last if isinstance(status.state, Waiting) else status.state
        if isinstance(ended, Terminated):
            failed += ended.exit_code != 0
        else:
            pending += 1
    return pending, failed


def _count_apps(
    containers: Iterable[Container], by_name: _Statuses
) -> tuple[int, int, int, int, int]:
    unknown = running = waiting = stopped = succeeded = 0
    for container in containers:
        status = by_name.get(container.name)
        match status.state if status is not None else None:
            case Running():
                running += 1
            case Terminated(exit_code=code):
                stopped += 1
                succeeded += code == 0
            case Waiting() if status is not None and status.last is not None:
                stopped += 1  # CrashLoopBackOff counts as stopped
            case Waiting():
                waiting += 1
            case _:
                unknown += 1
    return unknown, running, waiting, stopped, succeeded
