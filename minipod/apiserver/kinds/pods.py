"""Pods and pod templates."""

from __future__ import annotations

from typing import Any

from minipod.api import pod_template
from minipod.apiserver.kinds import pod_printer
from minipod.apiserver.resources import STATUS, Resource, Strategy, Subresource
from minipod.apiserver.table import NAME, Cell, Column, field, printer

Object = dict[str, Any]

_CONNECT = ("create", "get")

POD = Resource(
    plural="pods",
    kind="Pod",
    type="core.v1.Pod",
    short_names=("po",),
    categories=("all",),
    graceful=True,
    returns_deleted=True,
    has_generation=True,  # since 1.33; the kubelet tells which one it has seen
    subresources=(
        Subresource(name="attach", verbs=_CONNECT, kind="PodAttachOptions"),
        Subresource(name="binding", verbs=("create",), kind="Binding"),
        Subresource(name="ephemeralcontainers"),
        Subresource(name="eviction", verbs=("create",), kind="Eviction", group_version="policy/v1"),
        Subresource(name="exec", verbs=_CONNECT, kind="PodExecOptions"),
        Subresource(name="log", verbs=("get",)),
        Subresource(name="portforward", verbs=_CONNECT, kind="PodPortForwardOptions"),
        Subresource(name="resize", verbs=("get", "patch", "update")),
        STATUS,
    ),
    fields=(
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
        "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName",
    ),
    printer=pod_printer.PRINTER,
)  # fmt: skip


def _containers(key: str) -> Cell:
    """Return the cell that lists one field of a template's containers."""
    return lambda item: ",".join(
        c.get(key, "") for c in field(item, "template.spec.containers") or []
    )


def _labels(item: Object) -> str:
    labels = field(item, "template.metadata.labels") or {}
    return ",".join(f"{k}={v}" for k, v in sorted(labels.items())) or "<none>"


POD_TEMPLATE = Resource(
    plural="podtemplates",
    kind="PodTemplate",
    type="core.v1.PodTemplate",
    returns_deleted=True,
    has_generation=True,
    strategy=Strategy(
        default=lambda item: pod_template.complete(item.get("template")),
        validate=lambda item: pod_template.check(item.get("template"), "template"),
    ),
    printer=printer(
        NAME, Column("Containers", _containers("name")), Column("Images", _containers("image")),
        Column("Pod Labels", _labels),
    ),
)  # fmt: skip

BINDING = Resource(
    plural="bindings", kind="Binding", type="core.v1.Binding", verbs=("create",), stored=False
)

RESOURCES = (POD, POD_TEMPLATE, BINDING)
