"""Nodes, leases, priority classes, runtime classes."""

from __future__ import annotations

from typing import Any

from minipod.api import validation_kinds as rules
from minipod.apiserver.resources import STATUS, Resource, Strategy, Subresource
from minipod.apiserver.table import AGE, NAME, Column, field, printer

Object = dict[str, Any]

_ROLE = "node-role.kubernetes.io/"


def _status(node: Object) -> str:
    conditions = (node.get("status") or {}).get("conditions") or []
    ready = next((c["status"] for c in conditions if c["type"] == "Ready"), None)
    word = "Unknown" if ready is None else "Ready" if ready == "True" else "NotReady"
    return f"{word},SchedulingDisabled" if field(node, "spec.unschedulable") == "true" else word


def _roles(node: Object) -> str:
    labels = node["metadata"].get("labels") or {}
    found = sorted(k.removeprefix(_ROLE) for k in labels if k.startswith(_ROLE))
    return ",".join(found) or "<none>"


def _address(kind: str) -> Column:
    def cell(node: Object) -> str:
        addresses = (node.get("status") or {}).get("addresses") or []
        return next((a["address"] for a in addresses if a["type"] == kind), "<none>")

    return Column(kind.replace("IP", "-IP"), cell, wide=True)


def _info(name: str, key: str) -> Column:
    return Column(name, f"status.nodeInfo.{key}", "<unknown>", wide=True)


NODE = Resource(
    plural="nodes",
    kind="Node",
    type="core.v1.Node",
    namespaced=False,
    keeps_status=True,
    short_names=("no",),
    subresources=(Subresource(name="proxy", verbs=("get",), kind="NodeProxyOptions"), STATUS),
    fields=("spec.unschedulable",),
    strategy=Strategy(validate=rules.validate_node),
    printer=printer(
        NAME, Column("Status", _status), Column("Roles", _roles), AGE, Column("Version", "status.nodeInfo.kubeletVersion"),
        _address("InternalIP"), _address("ExternalIP"), _info("OS-Image", "osImage"),
        _info("Kernel-Version", "kernelVersion"), _info("Container-Runtime", "containerRuntimeVersion"),
    ),
)  # fmt: skip

LEASE = Resource(
    plural="leases",
    kind="Lease",
    type="coordination.v1.Lease",
    group="coordination.k8s.io",
    durable=False,
    strategy=Strategy(validate=rules.validate_lease),
    printer=printer(NAME, Column("Holder", "spec.holderIdentity"), AGE),
)


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
    printer=printer(
        NAME, Column("Value", lambda i: i.get("value", 0)), Column("Global-Default", "globalDefault", "false"), AGE
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
    printer=printer(NAME, Column("Handler", "handler"), AGE),
)

RESOURCES = (NODE, LEASE, PRIORITY_CLASS, RUNTIME_CLASS)
