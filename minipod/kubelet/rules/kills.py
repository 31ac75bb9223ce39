"""Which running containers must go, and with which words: the kills of computePodActions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from minipod.kubelet.rules.hashing import spec_hash
from minipod.kubelet.rules.observed import Instance, ProbeResults
from minipod.kubelet.rules.pods import Container, Probe, Role
from minipod.kubelet.rules.probe import ProbeResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Kill one instance; *message* is the Killing event's, *cause* one word for logs."""

    container: Container
    container_id: str
    message: str
    cause: str
    grace: int | None = None  # a probe's own grace period
    again: bool = True  # whether the container is started anew


def kill_running(
    container: Container, instance: Instance, probes: ProbeResults, *, again: bool
) -> Kill | None:
    """Changed definition (restarts whatever the policy), failed liveness, failed startup: the first
    that holds. *again*: what the policies say of a container that was killed."""
    what, cause, probe = "", "", None
    if instance.spec_hash and instance.spec_hash != spec_hash(container):
        again, what, cause = True, "definition changed", "changed"
    elif _failed(probes.liveness, instance, container.liveness_probe):
        what, cause, probe = "failed liveness probe", "liveness", container.liveness_probe
    elif _failed(probes.startup, instance, container.startup_probe):
        what, cause, probe = "failed startup probe", "startup", container.startup_probe
    if not cause:
        return None
    return Kill(
        container=container,
        container_id=instance.id,
        message=f"{_kind(container)} {container.name} {what}"
        + (", will be restarted" if again and container.role is Role.APP else ""),
        cause=cause,
        grace=None if probe is None else probe.termination_grace_period_seconds,
        again=again,
    )


def kill_unknown(container: Container, instance: Instance) -> Kill:
    """Nobody knows its state: make sure that it is dead before it starts again."""
    return Kill(
        container=container,
        container_id=instance.id,
        message=f"{_kind(container)} is in 'Unknown' state, try killing it before restart",
        cause="unknown",
    )


def kill_for_round(container: Container, instance: Instance) -> Kill:
    """A rule asked for all containers of the pod to start anew (KEP-5532)."""
    return Kill(
        container=container,
        container_id=instance.id,
        message=f"{_kind(container)} {container.name} is restarted with all containers of the pod",
        cause="round",
    )


def _kind(container: Container) -> str:
    return "Container" if container.role is Role.APP else "Init container"


def _failed(results: Mapping[str, ProbeResult], instance: Instance, probe: Probe | None) -> bool:
    return probe is not None and results.get(instance.id) is ProbeResult.FAILURE
