"""Kinds that can only be read as yet, and of which there are none: kubectl asks for them all the same, and must learn just that.

Their schemas are served, for `kubectl explain`. cluster-info lists services; create asks for custom resource definitions before it makes
what it can't patch (reviews); apply --prune wants every kind that it could remove. Each gets a file of its own when it comes.
"""

from __future__ import annotations

from minipod.apiserver.resources import Resource

CLUSTER = ("CustomResourceDefinition",)
KINDS = """
    - Service svc
    - Endpoints ep
    - ReplicationController rc
    apps DaemonSet ds
    apps Deployment deploy
    apps ReplicaSet rs
    apps StatefulSet sts
    batch CronJob cj
    batch Job
    networking.k8s.io Ingress ing
    apiextensions.k8s.io CustomResourceDefinition crd crds
"""


def _resource(group: str, kind: str, *short: str) -> Resource:
    plural = kind.lower() + (
        "" if kind.endswith("points") else "es" if kind.endswith("ss") else "s"
    )
    package = "core" if group == "-" else group.partition(".")[0]
    return Resource(
        plural=plural, kind=kind, type=f"{package}.v1.{kind}", group=group.strip("-"), namespaced=kind not in CLUSTER,
        short_names=short, verbs=("get", "list", "watch"), stored=False,
    )  # fmt: skip


RESOURCES = (*(_resource(*line.split()) for line in KINDS.strip().splitlines()),)
