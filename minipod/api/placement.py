"""Node selectors, taints and tolerations: may a pod, or a volume's user, be on this node? Pure.

Kubernetes asks three times, and so do we: the kubelet before it starts a pod (node selector, required affinity, NoExecute taints), the
volume binder and the kubelet for a PersistentVolume's nodeAffinity, the taint controller for pods that run (K8S
component-helpers/scheduling/corev1: nodeaffinity.go, helpers.go). There is no scheduler here: what only that reads (preferred affinity,
affinity between pods, NoSchedule taints) decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Raw = Mapping[str, Any]

NO_EXECUTE = "NoExecute"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What of a node decides."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Raw, ...] = ()


def node_facts(node: Raw) -> NodeFacts:
    """Read a node object."""
    return NodeFacts(
        name=node["metadata"]["name"],
        labels=node["metadata"].get("labels") or {},
        taints=tuple((node.get("spec") or {}).get("taints") or ()),
    )


def wants(spec: Raw, node: NodeFacts) -> bool:
    """Whether a pod's nodeSelector and required node affinity take this node."""
    selector = spec.get("nodeSelector") or {}
    if any(node.labels.get(key) != value for key, value in selector.items()):
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED)
    return required is None or selects(required, node)


def selects(selector: Raw, node: NodeFacts) -> bool:
    """Whether one term of a NodeSelector fits; none, or an empty one, fits no node."""
    return any(_term(term, node) for term in selector.get("nodeSelectorTerms") or ())


def _term(term: Raw, node: NodeFacts) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_fits(e, node.labels) for e in expressions) and all(
        _fits(e, {"metadata.name": node.name}) for e in fields
    )


def _fits(requirement: Raw, values: Mapping[str, str]) -> bool:
    key, wanted = requirement.get("key", ""), requirement.get("values") or ()
    have = values.get(key)
    match requirement.get("operator"):
        case "In":
            return have in wanted
        case "NotIn":
            return have not in wanted
        case "Exists":
            return have is not None
        case "DoesNotExist":
            return have is None
        case "Gt" | "Lt" as sign:
            return _compare(sign, have, wanted[0] if wanted else None)
    return False


def _compare(sign: str, have: str | None, than: str | None) -> bool:
    try:
        left, right = int(have or ""), int(than or "")
    except ValueError:
        return False
    return left > right if sign == "Gt" else left < right


def tolerates(toleration: Raw, taint: Raw) -> bool:
    """Toleration.ToleratesTaint: an empty key or effect stands for all."""
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") not in (None, "", taint.get("key")):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return (toleration.get("value") or "") == (taint.get("value") or "")


def no_execute(node: NodeFacts) -> tuple[Raw, ...]:
    """The taints that pods are not to run under."""
    return tuple(t for t in node.taints if t.get("effect") == NO_EXECUTE)


def untolerated(taints: Iterable[Raw], tolerations: Iterable[Raw]) -> Raw | None:
    """The first of *taints* that none of *tolerations* tolerates."""
    given = tuple(tolerations)
    return next((t for t in taints if not any(tolerates(g, t) for g in given)), None)


def stays(taints: Iterable[Raw], tolerations: Iterable[Raw]) -> float | None:
    """Seconds that a pod may run on under NoExecute *taints*: 0 for one that does not tolerate them all, None for as long as it likes
    (getMinTolerationTime)."""
    given = tuple(tolerations)
    limits: list[float] = []
    for taint in taints:
        fitting = [t for t in given if tolerates(t, taint)]
        if not fitting:
            return 0.0
        limits += [max(0.0, t["tolerationSeconds"]) for t in fitting if _limited(t)]
    return min(limits, default=None)


def _limited(toleration: Raw) -> bool:
    return toleration.get("tolerationSeconds") is not None
