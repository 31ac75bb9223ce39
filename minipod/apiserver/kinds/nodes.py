"""Nodes, leases, priority classes, runtime classes."""

from __future__ import annotations

from typing import Any

from minipod.api import validation_kinds as rules
from minipod.apiserver.resources import STATUS, Printer, Resource, Strategy, Subresource
from minipod.apiserver.table import created

Object = dict[str, Any]

_ROLE = "node-role.kubernetes.io/"


def node_row(node: Object) -> list[Any]:
    """Return the cells of one node (printNode)."""
    status, metadata = node.get("status") or {}, node["metadata"]
    ready = next(
        (c["status"] for c in status.get("conditions") or [] if c["type"] == "Ready"), None
    )
    words = ["Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"]
    if (node.get("spec") or {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    labels = metadata.get("labels") or {}
    roles = sorted(k.removeprefix(_ROLE) for k in labels if k.startswith(_ROLE))
    about = status.get("nodeInfo") or {}

    def address(kind: str) -> str:
        found = (a["address"] for a in status.get("addresses") or [] if a["type"] == kind)
        return next(found, "<none>")

    return [
        metadata["name"], ",".join(words), ",".join(roles) or "<none>", created(node),
        about.get("kubeletVersion", ""), address("InternalIP"), address("ExternalIP"),
        about.get("osImage") or "<unknown>", about.get("kernelVersion") or "<unknown>",
        about.get("containerRuntimeVersion") or "<unknown>",
    ]  # fmt: skip


NODE = Resource(
    plural="nodes",
    kind="Node",
    type="core.v1.Node",
    namespaced=False,
    short_names=("no",),
    subresources=(Subresource(name="proxy", verbs=("create", "delete", "get", "patch", "update"), kind="NodeProxyOptions"), STATUS),
    fields=("spec.unschedulable",),
    strategy=Strategy(validate=rules.validate_node),
    printer=Printer(
        columns=(
            ("Name", 0), ("Status", 0), ("Roles", 0), ("Age", 0), ("Version", 0), ("Internal-IP", 1),
            ("External-IP", 1), ("OS-Image", 1), ("Kernel-Version", 1), ("Container-Runtime", 1),
        ),
        row=node_row,
    ),
)  # fmt: skip

LEASE = Resource(
    plural="leases",
    kind="Lease",
    type="coordination.v1.Lease",
    group="coordination.k8s.io",
    durable=False,
    strategy=Strategy(validate=rules.validate_lease),
    printer=Printer(
        columns=(("Name", 0), ("Holder", 0), ("Age", 0)),
        row=lambda i: [
            i["metadata"]["name"], (i.get("spec") or {}).get("holderIdentity", ""), created(i),
        ],
    ),
)  # fmt: skip


def _default_priority(item: Object) -> None:
    item.setdefault("preemptionPolicy", "PreemptLowerPriority")
    item.setdefault("value", 0)


PRIORITY_CLASS = Resource(
    plural="priorityclasses",
    kind="PriorityClass",
    type="scheduling.v1.PriorityClass",
    group="scheduling.k8s.io",
    namespaced=False,
    short_names=("pc",),
    has_generation=True,
    strategy=Strategy(
        default=_default_priority,
        validate=rules.validate_priority_class,
        validate_update=rules.validate_priority_class_update,
    ),
    printer=Printer(
        columns=(("Name", 0), ("Value", 0), ("Global-Default", 0), ("Age", 0)),
        row=lambda i: [
            i["metadata"]["name"], i.get("value", 0),
            str(i.get("globalDefault", False)).lower(), created(i),
        ],
    ),
)  # fmt: skip

RUNTIME_CLASS = Resource(
    plural="runtimeclasses",
    kind="RuntimeClass",
    type="node.v1.RuntimeClass",
    group="node.k8s.io",
    namespaced=False,
    strategy=Strategy(
        validate=rules.validate_runtime_class,
        validate_update=rules.immutable("handler"),
    ),
    printer=Printer(
        columns=(("Name", 0), ("Handler", 0), ("Age", 0)),
        row=lambda i: [i["metadata"]["name"], i.get("handler", ""), created(i)],
    ),
)

RESOURCES = (NODE, LEASE, PRIORITY_CLASS, RUNTIME_CLASS)
