"""Pods and pod templates."""

from __future__ import annotations

from typing import Any

from minipod.apiserver.kinds import pod_printer
from minipod.apiserver.resources import STATUS, Printer, Resource, Subresource

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


def _template_row(item: Object) -> list[Any]:
    template = item.get("template") or {}
    containers = (template.get("spec") or {}).get("containers") or []
    labels = (template.get("metadata") or {}).get("labels") or {}
    return [
        item["metadata"]["name"], ",".join(c["name"] for c in containers),
        ",".join(c.get("image", "") for c in containers),
        ",".join(f"{k}={v}" for k, v in sorted(labels.items())) or "<none>",
    ]  # fmt: skip


POD_TEMPLATE = Resource(
    plural="podtemplates",
    kind="PodTemplate",
    type="core.v1.PodTemplate",
    returns_deleted=True,
    has_generation=True,
    printer=Printer(
        columns=(("Name", 0), ("Containers", 0), ("Images", 0), ("Pod Labels", 0)),
        row=_template_row,
    ),
)

BINDING = Resource(
    plural="bindings", kind="Binding", type="core.v1.Binding", verbs=("create",), stored=False
)

RESOURCES = (POD, POD_TEMPLATE, BINDING)
