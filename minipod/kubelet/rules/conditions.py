"""Pod conditions (K8S pkg/kubelet/status/generate.go), with PodReadyToStartContainers of 1.29."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from minipod.kubelet.rules.pods import Container, Pod
    from minipod.kubelet.rules.status import ContainerStatus


OWNED = frozenset((
    "PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled",
    "PodResizePending", "PodResizeInProgress",
))  # fmt: skip
SHARED = "DisruptionTarget"  # the API server and the taint controller write it, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    type: str
    status: bool
    reason: str = ""
    message: str = ""


def conditions(
    pod: Pod,
    phase: str,
    init: Sequence[ContainerStatus],
    apps: Sequence[ContainerStatus],
    *,
    sandbox_ready: bool,
) -> tuple[Condition, ...]:
    """All conditions that the kubelet owns, in the order that kubectl shows."""
    containers_ready = _containers_ready(pod, phase, (*init, *apps))
    return (
        Condition(type="PodReadyToStartContainers", status=sandbox_ready),
        _initialized(pod, phase, init, apps),
        _ready(pod, containers_ready),
        containers_ready,
        Condition(type="PodScheduled", status=True),
    )


def disruption(message: str) -> Condition:
    """The condition of a pod that the node ends before its time (KEP-3329)."""
    return Condition(type=SHARED, status=True, reason="TerminationByKubelet", message=message)


def joined(
    ours: Iterable[Mapping[str, Any]], stored: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The kubelet's own conditions of *ours*, and everybody else's (readiness gates) as *stored*; a shared one as it says it."""
    own = [dict(c) for c in ours if c["type"] in OWNED or _by_kubelet(c)]
    said = {c["type"] for c in own}
    return own + [dict(c) for c in stored if c["type"] not in OWNED | said]


def _by_kubelet(condition: Mapping[str, Any]) -> bool:
    return condition["type"] == SHARED and condition.get("reason") == "TerminationByKubelet"


def merge(
    old: Iterable[Mapping[str, Any]],
    new: Iterable[Condition],
    now: str,
    generation: int | None = None,
) -> list[dict[str, Any]]:
    """Raw conditions; lastTransitionTime changes only when the status flips. Foreign types are
    kept. *generation* is the observedGeneration (1.34) of those that are ours."""
    previous = {c["type"]: c for c in old}
    merged = []
    for condition in new:
        word = "True" if condition.status else "False"
        before = previous.pop(condition.type, None)
        flipped = before is None or before.get("status") != word
        since = now if flipped or before is None else before.get("lastTransitionTime", now)
        raw: dict[str, Any] = {"type": condition.type, "status": word, "lastProbeTime": None}
        raw["lastTransitionTime"] = since
        if condition.reason:
            raw["reason"] = condition.reason
        if condition.message:
            raw["message"] = condition.message
        if generation is not None:
            raw["observedGeneration"] = generation
        merged.append(raw)
    return merged + [dict(c) for c in previous.values() if c["type"] not in OWNED]


def _initialized(
    pod: Pod, phase: str, init: Sequence[ContainerStatus], apps: Sequence[ContainerStatus]
) -> Condition:
    if phase == "Succeeded":
        return Condition(type="Initialized", status=True, reason="PodCompleted")
    if any(status.started for status in apps):
        # A sidecar that restarts does not undo the initialization.
        return Condition(type="Initialized", status=True)
    known = {status.name: status for status in init}
    done = {
        c.name
        for c in pod.init_containers
        if (s := known.get(c.name)) is not None and (s.started if c.is_sidecar else s.ready)
    }
    message = _unmet(pod.init_containers, known, done, "incomplete")
    if not message:
        return Condition(type="Initialized", status=True)
    reason = "ContainersNotInitialized" if known else "UnknownContainerStatuses"
    return Condition(type="Initialized", status=False, reason=reason, message=message)


def _containers_ready(pod: Pod, phase: str, statuses: Sequence[ContainerStatus]) -> Condition:
    if phase == "Succeeded":
        return Condition(type="ContainersReady", status=False, reason="PodCompleted")
    if phase == "Failed":
        return Condition(type="ContainersReady", status=False, reason="PodFailed")
    known = {status.name: status for status in statuses}
    ready = {name for name, status in known.items() if status.ready}
    message = _unmet(pod.long_running, known, ready, "unready")
    if not message:
        return Condition(type="ContainersReady", status=True)
    reason = "ContainersNotReady" if known else "UnknownContainerStatuses"
    return Condition(type="ContainersReady", status=False, reason=reason, message=message)


def _unmet(
    containers: Sequence[Container], known: Collection[str], good: Collection[str], word: str
) -> str:
    """The message that names who is not yet *good*; "" when all are."""
    unknown = [c.name for c in containers if c.name not in known]
    others = [c.name for c in containers if c.name in known and c.name not in good]
    parts = (("unknown", unknown), (word, others))
    return ", ".join(
        f"containers with {kind} status: {_go_list(names)}" for kind, names in parts if names
    )


def _ready(pod: Pod, containers_ready: Condition) -> Condition:
    if not containers_ready.status:
        return Condition(
            type="Ready",
            status=False,
            reason=containers_ready.reason,
            message=containers_ready.message,
        )
    found = {c["type"]: c["status"] for c in pod.status.get("conditions") or ()}
    problems = []
    for gate in pod.readiness_gates:
        if gate not in found:
            problems.append(
                f'corresponding condition of pod readiness gate "{gate}" does not exist.'
            )
        elif found[gate] != "True":
            problems.append(
                f'the status of pod readiness gate "{gate}" is not "True", but {found[gate]}'
            )
    if problems:
        return Condition(
            type="Ready",
            status=False,
            reason="ReadinessGatesNotReady",
            message=", ".join(problems),
        )
    return Condition(type="Ready", status=True)


def _go_list(names: Sequence[str]) -> str:
    return f"[{' '.join(names)}]"
