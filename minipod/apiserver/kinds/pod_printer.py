"""The cells of a pod in a table (printPod); `apiserver.pod_row` computes what READY, STATUS and RESTARTS say."""

from __future__ import annotations

from typing import Any

from minipod.apiserver.pod_row import readiness_gates, summary
from minipod.apiserver.resources import Printer
from minipod.apiserver.table import age

Object = dict[str, Any]

POD_COLUMNS = (
    ("Name", 0), ("Ready", 0), ("Status", 0), ("Restarts", 0), ("Age", 0),
    ("IP", 1), ("Node", 1), ("Nominated Node", 1), ("Readiness Gates", 1),
)  # fmt: skip


def pod_row(pod: Object) -> list[str]:
    """Return the cells of one pod."""
    status, found = pod.get("status", {}), summary(pod)
    shown = str(found.restarts)
    if found.restarts and found.last_restart:
        shown += f" ({age(found.last_restart)} ago)"
    ips = [i["ip"] for i in status.get("podIPs", [])]
    return [
        pod["metadata"]["name"], f"{found.ready}/{found.total}", found.reason, shown,
        age(pod["metadata"].get("creationTimestamp")), ips[0] if ips else status.get("podIP") or "<none>",
        pod.get("spec", {}).get("nodeName") or "<none>", status.get("nominatedNodeName") or "<none>",
        readiness_gates(pod),
    ]  # fmt: skip


PRINTER = Printer(columns=POD_COLUMNS, row=pod_row)
