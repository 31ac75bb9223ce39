"""Whether a container starts again, and when: policy, rules by exit code, crash-loop backoff.

doBackOff (K8S pkg/kubelet/kuberuntime/kuberuntime_manager.go) with flowcontrol/backoff.go: the
first restart is immediate, then 10 s, doubling to 300 s; more than ten minutes between the last
start decision and the exit forget it all. The entry is derived from the newest instance (it
travels as an annotation of the container), so it survives the daemon, and a changed container hash
starts from nothing. A pod may tune both numbers by annotation, between 0 and 300 s.

restartPolicyRules: KEP-5307. A container's own policy goes before the pod's, its rules before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from minipod.api import tuning
from minipod.kubelet.rules.observed import Backoff, Instance, Observed, State
from minipod.kubelet.rules.pods import Container, Pod, Role

INITIAL = 10.0
MAXIMUM = 300.0
RESET_AFTER = 600.0  # whatever the maximum is tuned to (KEP-4603)
KILLED = 137  # the exit code of a container that was killed, or went with its sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """How long a crash loop waits: the first delay, and the longest one, in seconds."""

    initial: float = INITIAL
    maximum: float = MAXIMUM


DEFAULT_CURVE = Curve()


def curve_of(annotations: Mapping[str, str]) -> Curve:
    """The pod's curve: its annotations, or the default."""
    maximum = tuning.crash_loop(annotations, tuning.CRASH_LOOP_MAX, MAXIMUM)
    initial = tuning.crash_loop(annotations, tuning.CRASH_LOOP_INITIAL, INITIAL)
    return Curve(initial=min(initial, maximum), maximum=maximum)


def restarts_after(pod: Pod, container: Container, exit_code: int) -> bool:
    """Whether the policies start it again after that exit (ContainerShouldRestart)."""
    if matching_rule(container, exit_code) is not None:
        return True
    policy = container.restart_policy or pod.restart_policy
    if policy == "OnFailure":
        return exit_code != 0
    if policy == "Always" and container.role is Role.INIT and not container.is_sidecar:
        return exit_code != 0  # for init containers Always means OnFailure
    return policy == "Always"


def matching_rule(container: Container, exit_code: int) -> str | None:
    """The action of the first rule that matches; every action restarts the container."""
    if not container.restart_policy:
        return None  # rules hold only beside a policy of the container's own
    for rule in container.restart_rules:
        if rule.matches(exit_code):
            return rule.action
    return None


def should_restart(pod: Pod, container: Container, instance: Instance | None) -> bool:
    """ShouldContainerBeRestarted (K8S pkg/kubelet/container/helpers.go)."""
    if pod.deleting:
        return False
    if instance is None:
        return True
    if container.role is Role.EPHEMERAL or instance.state is State.RUNNING:
        return False
    if instance.state in (State.CREATED, State.UNKNOWN):
        return True
    return restarts_after(pod, container, instance.exit_code)


def restarts_in_new_sandbox(pod: Pod, container: Container, instance: Instance | None) -> bool:
    """Whether a container runs again when its sandbox was lost; a lost running one has failed."""
    if instance is None:
        return True
    ended = instance.state is State.EXITED
    return restarts_after(pod, container, instance.exit_code if ended else KILLED)


def round_began(pod: Pod, observed: Observed) -> float:
    """When the pod's present round of containers began: at the newest exit that a rule answers with
    RestartAllContainers (KEP-5532); 0.0 for a pod that has had none. What is older starts anew."""
    times = [
        instance.finished_at
        for container in pod.init_containers + pod.containers
        for instance in observed.instances(container.name)
        if instance.state is State.EXITED
        and matching_rule(container, instance.exit_code) == "RestartAllContainers"
    ]
    return max(times, default=0.0)


def entry_of(instance: Instance | None, spec_hash: str) -> Backoff | None:
    """The entry that holds for the next start; another hash is another key."""
    if instance is None or instance.spec_hash != spec_hash:
        return None
    return instance.backoff


def backing_off_until(
    entry: Backoff | None, finished_at: float, now: float, curve: Curve = DEFAULT_CURVE
) -> float | None:
    """When the wait ends, or None when it may start now."""
    if entry is None or _expired(entry, finished_at):
        return None
    until = finished_at + min(entry.delay, curve.maximum)
    return until if now < until else None


def next_entry(
    entry: Backoff | None, finished_at: float, now: float, curve: Curve = DEFAULT_CURVE
) -> Backoff:
    """The entry after a start that is decided *now*."""
    if entry is None or _expired(entry, finished_at):
        return Backoff(delay=curve.initial, decided_at=now)
    return Backoff(delay=min(entry.delay * 2, curve.maximum), decided_at=now)


def start_entry(
    instance: Instance | None, spec_hash: str, now: float, curve: Curve = DEFAULT_CURVE
) -> Backoff | None:
    """What a new instance carries: nothing for a first start, for it is no restart."""
    if instance is None or instance.state is not State.EXITED:
        return None if instance is None else entry_of(instance, spec_hash)
    return next_entry(entry_of(instance, spec_hash), instance.finished_at, now, curve)


def message(container: str, pod: str, delay: float) -> str:
    """The message of CrashLoopBackOff; *pod* is `name_namespace(uid)`."""
    return f"back-off {duration(delay)} restarting failed container={container} pod={pod}"


def duration(seconds: float) -> str:
    """Seconds as Go prints a Duration: 500ms, 10s, 1m20s, 5m0s."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:g}m{rest:g}s" if minutes else f"{rest:g}s"


def _expired(entry: Backoff, finished_at: float) -> bool:
    return finished_at - entry.decided_at > RESET_AFTER
