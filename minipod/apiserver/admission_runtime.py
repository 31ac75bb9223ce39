"""What a RuntimeClass adds to a pod: overhead, node selector, tolerations (plugin/pkg/admission/runtimeclass)."""

from __future__ import annotations

from typing import Any

from minipod.api import quantity

Object = dict[str, Any]


def merge(pod: Object, runtime_class: Object | None) -> str:
    """Write into *pod* what its class says; return why that can't be, "" when it could."""
    spec = pod["spec"]
    overhead = ((runtime_class or {}).get("overhead") or {}).get("podFixed") or {}
    given = spec.get("overhead") or {}
    if given and not overhead:
        return "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
    if given and _values(given) != _values(overhead):
        return "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
    if overhead:
        spec["overhead"] = dict(overhead)
    return _scheduling(spec, (runtime_class or {}).get("scheduling") or {})


def _scheduling(spec: Object, scheduling: Object) -> str:
    selector = dict(spec.get("nodeSelector") or {})
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.get(key, value) != value:
            return (
                f"pod rejected: conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value};"
                f" pod.spec.nodeSelector[{key}] = {selector[key]}"
            )
        selector[key] = value
    if selector:
        spec["nodeSelector"] = selector
    listed = list(spec.get("tolerations") or [])
    listed += [t for t in scheduling.get("tolerations") or [] if t not in listed]
    if listed:
        spec["tolerations"] = listed
    return ""


def _values(amounts: Object) -> dict[str, Any]:
    return {name: quantity.parse(str(value)) for name, value in amounts.items()}
