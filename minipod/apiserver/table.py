"""Tables: the columns that `get` prints, computed by the server (printers.go; kubelet-rules 1.3)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from minipod.apiserver.pod_row import readiness_gates, summary

Object = dict[str, Any]

POD_COLUMNS = (
    ("Name", 0), ("Ready", 0), ("Status", 0), ("Restarts", 0), ("Age", 0),
    ("IP", 1), ("Node", 1), ("Nominated Node", 1), ("Readiness Gates", 1),
)  # fmt: skip


def table(resource: str, items: list[Object], version: str) -> Object:
    """Return a meta.k8s.io/v1 Table of *items*."""
    columns, row = PRINTERS.get(resource, (GENERIC_COLUMNS, generic_row))
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": [
            {"name": name, "type": "string", "format": "name" if name == "Name" else "",
             "description": "", "priority": priority}
            for name, priority in columns
        ],
        "rows": [
            {"cells": row(item), "object": {
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"],
            }}
            for item in items
        ],
    }  # fmt: skip


def age(since: str | None, now: datetime | None = None) -> str:
    """Return how long ago, as kubectl's duration.HumanDuration writes it."""
    if not since:
        return "<unknown>"
    then = datetime.fromisoformat(since)
    return human((now or datetime.now(UTC)).timestamp() - then.timestamp())


def human(seconds: float) -> str:  # noqa: PLR0911 one return for each unit
    """HumanDuration: two units at most, fewer the longer it is."""
    s = max(0, int(seconds))
    m, h, d = s // 60, s // 3600, s // 86400
    if s < 120:
        return f"{s}s"
    if m < 10:
        return f"{m}m{s % 60}s" if s % 60 else f"{m}m"
    if m < 180:
        return f"{m}m"
    if h < 8:
        return f"{h}h{m % 60}m" if m % 60 else f"{h}h"
    if h < 48:
        return f"{h}h"
    if d < 8:
        return f"{d}d{h % 24}h" if h % 24 else f"{d}d"
    return f"{d}d" if d < 730 else f"{d // 365}y{d % 365}d"


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


EVENT_COLUMNS = (
    ("Last Seen", 0),
    ("Type", 0),
    ("Reason", 0),
    ("Object", 0),
    ("Message", 0),
    ("Name", 1),
)


def event_row(event: Object) -> list[str]:
    """Return the cells of one event."""
    about = event.get("involvedObject", {})
    seen = (
        event.get("lastTimestamp")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
    )
    return [
        age(seen), event.get("type", ""), event.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}", event.get("message", "").strip(),
        event["metadata"]["name"],
    ]  # fmt: skip


NODE_COLUMNS = (
    ("Name", 0),
    ("Status", 0),
    ("Roles", 0),
    ("Age", 0),
    ("Version", 0),
    ("Internal-IP", 1),
)


def node_row(node: Object) -> list[str]:
    """Return the cells of one node."""
    conditions = node.get("status", {}).get("conditions", [])
    is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    addresses = [
        a["address"]
        for a in node.get("status", {}).get("addresses", [])
        if a["type"] == "InternalIP"
    ]
    version = node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "")
    return [
        node["metadata"]["name"], "Ready" if is_ready else "NotReady", "<none>",
        age(node["metadata"].get("creationTimestamp")), version, addresses[0] if addresses else "<none>",
    ]  # fmt: skip


GENERIC_COLUMNS = (("Name", 0), ("Age", 0))


def generic_row(item: Object) -> list[str]:
    return [item["metadata"]["name"], age(item["metadata"].get("creationTimestamp"))]


NAMESPACE_COLUMNS = (("Name", 0), ("Status", 0), ("Age", 0))


def namespace_row(item: Object) -> list[str]:
    phase = item.get("status", {}).get("phase", "Active")
    return [item["metadata"]["name"], phase, age(item["metadata"].get("creationTimestamp"))]


PRINTERS = {
    "pods": (POD_COLUMNS, pod_row),
    "events": (EVENT_COLUMNS, event_row),
    "nodes": (NODE_COLUMNS, node_row),
    "namespaces": (NAMESPACE_COLUMNS, namespace_row),
}
