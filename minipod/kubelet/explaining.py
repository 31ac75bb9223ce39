"""Decisions as journal records: what `minipod why` tells a person later. Values in, values out; no rule of its own.

A record's facts are what the rule looked at, in words: no clock readings that change by themselves, so that the same decision
taken again is the same record.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from minipod.journal import Record
from minipod.kubelet.rules.observed import State
from minipod.kubelet.rules.probe import Outcome, ProbeResult

if TYPE_CHECKING:
    from minipod.kubelet.probe.targets import Report
    from minipod.kubelet.rules.actions import PodActions
    from minipod.kubelet.rules.observed import Instance, Observed
    from minipod.kubelet.rules.pods import Container, Pod

COMPUTE = "rules.actions.compute"
BACKOFF = "rules.restart.backing_off_until"
KILLS = "rules.kills.kill_running"
PROBE = "rules.probe.count"
START = "starting.Starter.start"


def decided(pod: Pod, observed: Observed, actions: PodActions, at: float) -> Iterator[Record]:
    """The records of one look at the pod."""
    if actions.kill_pod and observed.anything_alive:
        because = dict(actions.why)
        if actions.failed is not None:
            because = {"reason": actions.failed[0], "message": actions.failed[1]}
        yield Record(
            at=at, pod_uid=pod.uid, rule=COMPUTE, decision="stop all containers", because=because
        )
    if actions.create_sandbox:
        yield Record(
            at=at,
            pod_uid=pod.uid,
            rule="rules.actions.sandbox_change",
            decision=f"create sandbox, attempt {actions.attempt}",
            because={"because": actions.why.get("sandbox", "")},
        )
    for kill in actions.kill:
        because = {
            "cause": kill.cause, "message": kill.message, "container id": kill.container_id[:12],
        }  # fmt: skip
        if kill.grace is not None:
            because["grace of the probe"] = f"{kill.grace} s"
        yield _about(pod, kill.container, at, rule=KILLS, decision="kill", because=because)
    for waits in actions.backing_off:
        instance = observed.newest(waits.container.name)
        because = {"delay": f"{waits.delay:g} s", "until": moment(waits.until), **_end(instance)}
        yield _about(pod, waits.container, at, rule=BACKOFF, decision="back off", because=because)
    # Who is killed first is looked at again before it starts; a changed one is not.
    killed = {kill.container.name for kill in actions.kill if kill.cause != "changed"}
    for container in (*actions.start_ephemeral, *actions.start_init, *actions.start):
        if container.name in killed:
            continue
        instance = observed.newest(container.name)
        because = {"restart policy": container.restart_policy or pod.restart_policy}
        because |= _end(instance) or {
            "before": "none" if instance is None else instance.state.value
        }
        yield _about(pod, container, at, rule=COMPUTE, decision="start", because=because)


def not_started(pod: Pod, container: Container, reason: str, message: str, at: float) -> Record:
    """A start that failed."""
    because = {"message": message} if message else {}
    return _about(pod, container, at, rule=START, decision=reason, because=because)


def held_up(pod: Pod, reason: str, message: str, at: float) -> Record:
    """A step of the pod as a whole that failed and is tried again."""
    return Record(
        at=at, pod_uid=pod.uid, rule="sync.PodSync", decision=reason, because={"message": message}
    )


def terminating(pod: Pod, grace: float, at: float) -> Record:
    """The pod is being deleted."""
    because = {"grace period": f"{grace:g} s"}
    return Record(
        at=at, pod_uid=pod.uid, rule="pod_worker.PodWorker", decision="terminate", because=because
    )


def probed(report: Report) -> Record:
    """A probe's result changed, or an attempt did not succeed."""
    because = {"container id": report.container_id[:12]}
    decision = f"{report.kind.value} is {report.result.value}"
    if report.attempt is not None:
        because["output"] = report.output
        if report.attempt is not Outcome.FAILURE or report.result is not ProbeResult.FAILURE:
            decision = f"{report.kind.value} attempt: {report.attempt.value}"
    return Record(
        at=report.at,
        pod_uid=report.pod_uid,
        container=report.container,
        rule=f"{PROBE} {report.kind.value}",
        decision=decision,
        because=because,
    )


def moment(at: float) -> str:
    """A time as records and people write it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _end(instance: Instance | None) -> dict[str, str]:
    if instance is None or instance.state is not State.EXITED:
        return {}
    found = {"exit code": str(instance.exit_code), "finished": moment(instance.finished_at)}
    if instance.reason:
        found["reason"] = instance.reason
    return found | {"restarts": str(instance.restart_count)}


def _about(
    pod: Pod, container: Container, at: float, *, rule: str, decision: str, because: dict[str, str]
) -> Record:
    return Record(
        at=at,
        pod_uid=pod.uid,
        container=container.name,
        rule=rule,
        decision=decision,
        because=because,
    )
