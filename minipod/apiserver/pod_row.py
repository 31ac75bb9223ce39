"""One pod as a table row: READY, STATUS, RESTARTS and the wide columns, by the rules of printPod
(pkg/printers/internalversion/printers.go, with sidecars as in 1.29 and newer)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(slots=True)
class Summary:
    """What the columns say. *last_restart* is RFC 3339, "" for none."""

    reason: str
    ready: int = 0
    total: int = 0
    restarts: int = 0
    last_restart: str = ""

    def count(self, status: Object) -> None:
        self.restarts += status.get("restartCount", 0)
        ended = (status.get("lastState") or {}).get("terminated") or {}
        self.last_restart = max(self.last_restart, ended.get("finishedAt") or "")


def summary(pod: Object) -> Summary:
    """Summarize *pod*, the raw object."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    sidecars = {
        c.get("name")
        for c in spec.get("initContainers") or []
        if c.get("restartPolicy") == "Always"
    }
    found = Summary(status.get("reason") or status.get("phase") or "Unknown")
    found.total = len(spec.get("containers", [])) + len(sidecars)
    if any(
        c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated"
        for c in status.get("conditions", [])
    ):
        found.reason = "SchedulingGated"
    initializing = _initialize(pod, sidecars, found)
    if not initializing or _is_true(status, "Initialized"):
        found.restarts, found.last_restart = 0, ""
        for one in status.get("initContainerStatuses", []):
            if one.get("name") in sidecars:
                found.count(one)
        _run(status, found)
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            found.reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            found.reason = "Terminating"
    return found


def readiness_gates(pod: Object) -> str:
    """Return "true/all" of the pod's readiness gates."""
    gates = pod.get("spec", {}).get("readinessGates") or []
    if not gates:
        return "<none>"
    met = sum(_is_true(pod.get("status", {}), gate.get("conditionType", "")) for gate in gates)
    return f"{met}/{len(gates)}"


def _initialize(pod: Object, sidecars: set[str], found: Summary) -> bool:
    """Whether the pod is still initializing; *found* then says how far it is."""
    total = len(pod.get("spec", {}).get("initContainers") or [])
    for i, one in enumerate(pod.get("status", {}).get("initContainerStatuses", [])):
        found.count(one)
        state = one.get("state", {})
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and terminated.get("exitCode") == 0:
            continue
        if one.get("name") in sidecars and one.get("started"):
            found.ready += bool(one.get("ready"))
            continue
        if terminated is not None:
            found.reason = f"Init:{_end(terminated)}"
        elif waiting.get("reason") not in (None, "", "PodInitializing"):
            found.reason = f"Init:{waiting['reason']}"
        else:
            found.reason = f"Init:{i}/{total}"
        return True
    return False


def _run(status: Object, found: Summary) -> None:
    running = False
    for one in reversed(status.get("containerStatuses", [])):
        found.count(one)
        state = one.get("state", {})
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            found.reason = waiting["reason"]
        elif terminated is not None:
            found.reason = _end(terminated)
        elif one.get("ready") and "running" in state:
            running = True
            found.ready += 1
    if found.reason == "Completed" and running:
        found.reason = "Running" if _is_true(status, "Ready") else "NotReady"


def _end(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _is_true(status: Object, kind: str) -> bool:
    return any(
        c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions", [])
    )
