"""What nodes and pods use (metrics.k8s.io/v1beta1), for `kubectl top`. Nothing is stored: `apiserver.metrics` answers."""

from __future__ import annotations

from minipod.apiserver.resources import Resource

GROUP = "metrics.k8s.io"


def _metrics(plural: str, kind: str, *, namespaced: bool) -> Resource:
    return Resource(
        plural=plural, kind=kind, type="", group=GROUP, version="v1beta1",
        namespaced=namespaced, verbs=("get", "list"), stored=False,
    )  # fmt: skip


NODES = _metrics("nodes", "NodeMetrics", namespaced=False)
PODS = _metrics("pods", "PodMetrics", namespaced=True)

RESOURCES = (NODES, PODS)
