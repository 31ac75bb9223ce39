"""Node selectors, node affinity, tolerations: what Kubernetes refuses (validation.go: validateTolerations, ValidateNodeSelector,
validatePodAffinity's node part). PersistentVolumes have a node selector, too."""

from __future__ import annotations

from minipod.api import metadata
from minipod.api.messages import Errors, Object, forbidden, invalid, required, unsupported
from minipod.api.placement import NO_EXECUTE, REQUIRED

EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")


def pod(spec: Object) -> Errors:
    """What a pod asks of its node."""
    yield from metadata.labels(spec.get("nodeSelector") or {}, "spec.nodeSelector")
    required_terms = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED)
    if required_terms is not None:
        yield from node_selector(required_terms, f"spec.affinity.nodeAffinity.{REQUIRED}")
    yield from tolerations(spec.get("tolerations") or [], "spec.tolerations")


def node_selector(selector: Object, path: str) -> Errors:
    """A NodeSelector at *path*."""
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        words = "must have at least one node selector term"
        yield required(f"{path}.nodeSelectorTerms", words)
    for i, term in enumerate(terms):
        at = f"{path}.nodeSelectorTerms[{i}]"
        for j, one in enumerate(term.get("matchExpressions") or []):
            yield from _expression(one, f"{at}.matchExpressions[{j}]")
        for j, one in enumerate(term.get("matchFields") or []):
            yield from _field(one, f"{at}.matchFields[{j}]")


def _expression(one: Object, path: str) -> Errors:
    operator, values = one.get("operator") or "", one.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            words = "must be specified when `operator` is 'In' or 'NotIn'"
            yield required(f"{path}.values", words)
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            words = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield forbidden(f"{path}.values", words)
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            words = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            yield required(f"{path}.values", words)
    else:
        yield invalid(f"{path}.operator", operator, "not a valid selector operator")
    if words := metadata.qualified_name(one.get("key") or ""):
        yield invalid(f"{path}.key", one.get("key") or "", words)


def _field(one: Object, path: str) -> Errors:
    operator, key = one.get("operator") or "", one.get("key") or ""
    if operator not in ("In", "NotIn"):
        yield invalid(f"{path}.operator", operator, "not a valid selector operator")
    elif len(one.get("values") or []) != 1:
        words = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        yield required(f"{path}.values", words)
    if key != "metadata.name":
        yield invalid(f"{path}.key", key, "not a valid field selector key")


def tolerations(listed: list[Object], path: str) -> Errors:
    """The tolerations of a pod, or of a RuntimeClass."""
    for i, one in enumerate(listed):
        yield from _toleration(one, f"{path}[{i}]")


def _toleration(one: Object, path: str) -> Errors:
    key, operator, value = (one.get(k) or "" for k in ("key", "operator", "value"))
    if key and (words := metadata.qualified_name(key)):
        yield invalid(f"{path}.key", key, words)
    if not key and operator != "Exists":
        words = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield invalid(f"{path}.operator", operator, words)
    effect = one.get("effect") or ""
    if one.get("tolerationSeconds") is not None and effect != NO_EXECUTE:
        words = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        yield invalid(f"{path}.effect", effect, words)
    if operator in ("", "Equal"):
        yield from metadata.labels({"value": value}, f"{path}.operator")
    elif operator == "Exists":
        if value:
            words = "value must be empty when `operator` is 'Exists'"
            yield invalid(f"{path}.operator", value, words)
    else:
        yield unsupported(f"{path}.operator", operator, ("Equal", "Exists"))
    if effect and effect not in EFFECTS:
        yield unsupported(f"{path}.effect", effect, EFFECTS)
