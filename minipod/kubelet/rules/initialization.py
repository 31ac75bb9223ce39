"""Init containers and sidecars: which one starts next, and whether initialization is over.

computeInitContainerActions (K8S kuberuntime_container.go, 1.29 and newer), in one sandbox: there
the list is walked backwards, because finished instances may have been pruned. The newest container
that is known decides: it has not come far enough, or the next one starts, or all are done. Sidecars
before it (and after initialization every sidecar) are kept running whatever else happens.
"""

from __future__ import annotations

from dataclasses import dataclass

from minipod.kubelet.rules import restart
from minipod.kubelet.rules.kills import Kill, kill_running, kill_unknown
from minipod.kubelet.rules.observed import Instance, Observed, ProbeResults, State
from minipod.kubelet.rules.pods import Container, Pod
from minipod.kubelet.rules.probe import ProbeResult


@dataclass(slots=True, kw_only=True)
class InitStep:
    """What initialization needs: *start* in spec order, backoff not yet looked at."""

    done: bool = False
    failed: str = ""  # the init container whose failure ends the pod
    start: list[Container]
    kill: list[Kill]


def init_step(
    pod: Pod, observed: Observed, probes: ProbeResults, sandbox_id: str | None
) -> InitStep:
    """Decide for the sandbox (None: there is none yet, or a new one comes)."""
    step = InitStep(start=[], kill=[])
    if not pod.init_containers:
        step.done = True
        return step
    done = sandbox_id is not None and apps_began(pod, observed, sandbox_id)
    behind = done  # whether a later container proves that this one has been initialized
    for index in range(len(pod.init_containers) - 1, -1, -1):
        container = pod.init_containers[index]
        instance = observed.newest(container.name, sandbox_id) if sandbox_id else None
        if instance is None:
            if behind and container.is_sidecar:
                step.start.append(container)
            continue
        if not behind and _completed(container, instance, probes):
            if index == len(pod.init_containers) - 1:
                done = True
            else:
                step.start.append(pod.init_containers[index + 1])
        if container.is_sidecar:
            _keep(pod, container, instance, probes, step)
        elif not behind and not _attend(pod, container, instance, step):
            step.failed = container.name
            step.start, step.kill = [], []
            return step
        behind = True
    if not behind:
        step.start.append(pod.init_containers[0])
    step.start.reverse()
    step.done = done
    return step


def apps_began(pod: Pod, observed: Observed, sandbox_id: str) -> bool:
    """An app container that was ever made in this sandbox proves that initialization is over."""
    return any(observed.newest(c.name, sandbox_id) is not None for c in pod.containers)


def _completed(container: Container, instance: Instance, probes: ProbeResults) -> bool:
    """Whether the next init container may start: it ended well, or (a sidecar) it has started."""
    if not container.is_sidecar:
        return instance.succeeded
    if instance.state is not State.RUNNING:
        return False
    if container.startup_probe is None:
        return True
    return probes.startup.get(instance.id) is ProbeResult.SUCCESS


def _keep(
    pod: Pod, container: Container, instance: Instance, probes: ProbeResults, step: InitStep
) -> None:
    """A sidecar runs, whatever the pod's policy."""
    if instance.state is State.RUNNING:
        kill = kill_running(container, instance, probes, again=True)
        if kill is None:
            return
        step.kill.append(kill)
    elif instance.state is State.UNKNOWN:
        step.kill.append(kill_unknown(container, instance))
    if not pod.deleting:
        step.start.append(container)


def _attend(pod: Pod, container: Container, instance: Instance, step: InitStep) -> bool:
    """The init container whose turn it is; False when its failure is the pod's."""
    if instance.state is State.RUNNING or instance.succeeded:
        return True
    if instance.state is State.UNKNOWN:
        step.kill.append(kill_unknown(container, instance))
    elif instance.state is State.EXITED and not restart.restarts_after(
        pod, container, instance.exit_code
    ):
        return False
    step.start.append(container)
    return True
