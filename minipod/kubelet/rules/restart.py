"""Whether a container starts again, and when: policy and crash-loop backoff.

doBackOff (K8S pkg/kubelet/kuberuntime/kuberuntime_manager.go) with flowcontrol/backoff.go: the
first restart is immediate, then 10 s, doubling to 300 s; more than 600 s between the last start
decision and the exit forget it all. The entry is derived from the newest instance (it travels as an
annotation of the container), so it survives the daemon, and a changed container hash starts from
nothing.
"""

from __future__ import annotations

from minipod.kubelet.rules.observed import Backoff, Instance, State

INITIAL = 10.0
MAXIMUM = 300.0


def should_restart(
    policy: str, instance: Instance | None, *, deleting: bool, init: bool = False
) -> bool:
    """ShouldContainerBeRestarted (K8S pkg/kubelet/container/helpers.go)."""
    if deleting:
        return False
    if instance is None or instance.state in (State.CREATED, State.UNKNOWN):
        return True
    if instance.state is State.RUNNING:
        return False
    if policy == "Never":
        return False
    if policy == "OnFailure" or init:  # for init containers Always means OnFailure
        return instance.exit_code != 0
    return True


def entry_of(instance: Instance | None, spec_hash: str) -> Backoff | None:
    """The entry that holds for the next start; another hash is another key."""
    if instance is None or instance.spec_hash != spec_hash:
        return None
    return instance.backoff


def backing_off_until(entry: Backoff | None, finished_at: float, now: float) -> float | None:
    """When the wait ends, or None when it may start now."""
    if entry is None or _expired(entry, finished_at):
        return None
    until = finished_at + entry.delay
    return until if now < until else None


def next_entry(entry: Backoff | None, finished_at: float, now: float) -> Backoff:
    """The entry after a start that is decided *now*."""
    if entry is None or _expired(entry, finished_at):
        return Backoff(delay=INITIAL, decided_at=now)
    return Backoff(delay=min(entry.delay * 2, MAXIMUM), decided_at=now)


def start_entry(instance: Instance | None, spec_hash: str, now: float) -> Backoff | None:
    """What a new instance carries: nothing for a first start, for it is no restart."""
    if instance is None or instance.state is not State.EXITED:
        return None if instance is None else entry_of(instance, spec_hash)
    return next_entry(entry_of(instance, spec_hash), instance.finished_at, now)


def message(container: str, pod: str, delay: float) -> str:
    """The message of CrashLoopBackOff; *pod* is `name_namespace(uid)`."""
    return f"back-off {duration(delay)} restarting failed container={container} pod={pod}"


def duration(seconds: float) -> str:
    """Seconds as Go prints a Duration: 10s, 1m20s, 5m0s."""
    whole = int(seconds)
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _expired(entry: Backoff, finished_at: float) -> bool:
    return finished_at - entry.decided_at > 2 * MAXIMUM
