"""The condition DisruptionTarget of a pod that is ended for other reasons than its own (KEP-3329): by the eviction API, by a taint.

The kubelet's own (TerminationByKubelet) are in its rules of conditions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

TYPE = "DisruptionTarget"
EVICTION = ("EvictionByEvictionAPI", "Eviction API: evicting")
TAINT = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
_OVER = ("Succeeded", "Failed")


def marked(pod: dict[str, Any], why: tuple[str, str], at: float) -> dict[str, Any] | None:
    """Return *pod* with the condition; None when it is over, or has it already. *at*: seconds since the epoch."""
    status = pod.get("status") or {}
    given = status.get("conditions") or []
    has = any(c["type"] == TYPE and c["status"] == "True" for c in given)
    if has or status.get("phase") in _OVER:
        return None
    reason, message = why
    condition = {
        "type": TYPE, "status": "True", "reason": reason, "message": message, "lastProbeTime": None,
        "lastTransitionTime": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }  # fmt: skip
    kept = [c for c in given if c["type"] != TYPE]
    return {**pod, "status": {**status, "conditions": [*kept, condition]}}
