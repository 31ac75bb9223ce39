"""The pod's whole status from what is known: generateAPIPodStatus (K8S
pkg/kubelet/kubelet_pods.go)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minipod.kubelet.rules import conditions, qos
from minipod.kubelet.rules.phase import TERMINAL, final_phase, get_phase, sticky_phase
from minipod.kubelet.rules.render import container_status, parse_status, timestamp
from minipod.kubelet.rules.status import (
    MESSAGES_LIMIT,
    ContainerStatus,
    Known,
    Waiting,
    app_statuses,
    cut_messages,
    ended_statuses,
    ephemeral_statuses,
    init_statuses,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.observed import Observed
    from minipod.kubelet.rules.pods import Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is known of the pod as a whole."""

    failed: tuple[str, str] | None = None  # reason and message of a pod that failed as a whole
    ended: bool = False  # nothing of it will run again
    conditions: tuple[conditions.Condition, ...] = ()  # that hold beside the usual ones


def generate(
    pod: Pod,
    observed: Observed,
    reasons: Mapping[str, Waiting],
    context: Context,
    verdict: Verdict,
) -> dict[str, Any]:
    """The status now."""
    failed, ended = verdict.failed, verdict.ended
    old = pod.status
    known = Known(
        observed=observed,
        probes=context.probes.results(pod.uid),
        reasons=reasons,
        old=old_statuses(pod),
    )
    init, apps = init_statuses(pod, known), app_statuses(pod, known)
    if ended:
        init, apps = ended_statuses(init, apps)
    cut = MESSAGES_LIMIT // max(1, len(init) + len(apps))
    init, apps = cut_messages(init, cut), cut_messages(apps, cut)
    phase = sticky_phase(old.get("phase", ""), get_phase(pod, (*init, *apps)))
    if phase not in TERMINAL and (failed or ended):
        phase = "Failed" if failed else final_phase(pod, (*init, *apps))
    now = timestamp(context.clock()) or ""
    ready = observed.sandbox is not None and observed.sandbox.ready and not ended
    found = conditions.conditions(pod, phase, init, apps, sandbox_ready=ready)
    found += verdict.conditions
    if phase == "Failed" and not observed.containers and not old.get("containerStatuses"):
        # The node refused it: a container that waits would hide why (rejectPod, K8S pkg/kubelet/kubelet.go).
        init, apps = (), ()
    status: dict[str, Any] = {
        "phase": phase,
        "conditions": conditions.merge(old.get("conditions") or (), found, now, pod.generation),
        **_reason(old, failed),
        **_addresses(pod, observed, context),
        "startTime": old.get("startTime") or now,
        "qosClass": qos.qos_class(pod),
    }
    if apps:
        status["containerStatuses"] = [container_status(s) for s in apps]
    if pod.generation is not None:
        status["observedGeneration"] = pod.generation
    if init:
        status["initContainerStatuses"] = [container_status(s) for s in init]
    if pod.ephemeral_containers:
        ephemeral = ephemeral_statuses(pod, known)
        status["ephemeralContainerStatuses"] = [container_status(s) for s in ephemeral]
    return status


def old_statuses(pod: Pod) -> dict[str, ContainerStatus]:
    """The stored container statuses by name."""
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    raws = (raw for kind in kinds for raw in pod.status.get(kind) or ())
    return {raw["name"]: parse_status(raw) for raw in raws}


def _reason(old: Mapping[str, Any], failed: tuple[str, str] | None) -> dict[str, str]:
    if failed is not None:
        return {"reason": failed[0], "message": failed[1]}
    return {key: old[key] for key in ("reason", "message") if old.get(key)}


def _addresses(pod: Pod, observed: Observed, context: Context) -> dict[str, Any]:
    host = context.machine.host_ip
    found: dict[str, Any] = {"hostIP": host, "hostIPs": [{"ip": host}]} if host else {}
    ips: tuple[str, ...] = observed.sandbox.ips if observed.sandbox is not None else ()
    if pod.host_network:
        ips = (host,) if host and observed.sandbox is not None else ()
    if ips:
        found |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    elif pod.status.get("podIP"):  # an ended pod keeps showing the address that it had
        found |= {"podIP": pod.status["podIP"], "podIPs": pod.status.get("podIPs") or []}
    return found
