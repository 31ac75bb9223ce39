"""What may change in a pod that exists (ValidatePodUpdate, ValidatePodEphemeralContainersUpdate): images, the active deadline
(set or shortened), tolerations (added), a negative grace period (to 1), and, through their subresource, ephemeral containers."""

from __future__ import annotations

import re

from minipod.api import static, tuning
from minipod.api.fields import FieldErrors
from minipod.api.messages import Errors, Object, forbidden, invalid
from minipod.api.validation import check_pod, validate_pod

_WORDS = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_MUTABLE_PATHS = re.compile(r"spec\.(tolerations\b|(initC|c)ontainers\[\d+\]\.image$)")
_MUTABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")


def check_update(current: Object, wanted: Object) -> None:
    """Raise FieldErrors unless only mutable fields differ."""
    old, new = current["spec"], wanted.get("spec") or {}
    errors = [
        *_update(old, new),
        *(e for e in check_pod(wanted, lenient=True).errors if _MUTABLE_PATHS.match(e.path)),
        *static.claimed(wanted, current),
        *tuning.check(wanted["metadata"].get("annotations") or {}),
    ]
    if errors:
        raise FieldErrors(f'Pod "{current["metadata"]["name"]}"', errors)


def check_resize(current: Object, wanted: Object) -> None:
    """Raise FieldErrors unless only cpu and memory of containers differ (ValidatePodResize); the result is a valid pod."""
    name = current["metadata"]["name"]
    if words := _not_resizable(current):
        raise FieldErrors(f'Pod "{name}"', [forbidden("", words)])
    validate_pod(wanted)
    errors = [*static.claimed(wanted, current), *_removed(current["spec"], wanted["spec"])]
    if _without_resources(current["spec"]) != _without_resources(wanted["spec"]):
        errors.append(forbidden("spec", "only cpu and memory resources are mutable"))
    elif qos(current) != qos(wanted):
        words = "Pod QOS Class may not change as a result of resizing"
        errors.append(invalid("spec", qos(wanted), words))
    if errors:
        raise FieldErrors(f'Pod "{name}"', errors)


def _not_resizable(pod: Object) -> str:
    if static.mirrored(pod):
        return "static pods cannot be resized"
    if pod["spec"].get("resources"):
        return "pods with pod-level resources cannot be resized"
    return ""


def _removed(old: Object, new: Object) -> Errors:
    """A resize takes no request and no limit away, and changes no init container that is not a sidecar."""
    for group in ("containers", "initContainers"):
        for i, (before, after) in enumerate(
            zip(old.get(group) or [], new.get(group) or [], strict=False)
        ):
            path = f"spec.{group}[{i}].resources"
            given, now = before.get("resources") or {}, after.get("resources") or {}
            for part in ("limits", "requests"):
                if any(name not in (now.get(part) or {}) for name in given.get(part) or {}):
                    yield forbidden(f"{path}.{part}", f"resource {part} cannot be removed")
            sidecar = before.get("restartPolicy") == "Always"
            if group == "initContainers" and not sidecar and given != now:
                words = "resources for non-sidecar init containers are immutable"
                yield forbidden(path, words)


def _without_resources(spec: Object) -> Object:
    """Return what a resize may not change: all but the amounts of cpu and memory."""
    kept = dict(spec)
    for group in ("containers", "initContainers"):
        kept[group] = [
            {**c, "resources": _other_resources(c.get("resources") or {})}
            for c in spec.get(group) or []
        ]
    return kept


def _other_resources(resources: Object) -> Object:
    kept = {k: v for k, v in resources.items() if k not in ("limits", "requests")}
    for part in ("limits", "requests"):
        amounts = {
            k: v for k, v in (resources.get(part) or {}).items() if k not in ("cpu", "memory")
        }
        if amounts:
            kept[part] = amounts
    return kept


def qos(pod: Object) -> str:
    """Return the pod's QoS class (GetPodQOS): what a resize must not change."""
    containers = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
    found = [c.get("resources") or {} for c in containers]
    if not any(r.get("requests") or r.get("limits") for r in found):
        return "BestEffort"
    for resources in found:
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            if name not in limits or requests.get(name, limits[name]) != limits[name]:
                return "Burstable"
    return "Guaranteed"


def check_ephemeral(current: Object, wanted: Object) -> None:
    """Raise FieldErrors unless only ephemeral containers were added; the result is a valid pod."""
    name = current["metadata"]["name"]
    if static.MIRROR in (current["metadata"].get("annotations") or {}):
        words = "static pods do not support ephemeral containers"
        raise FieldErrors(f'Pod "{name}"', [forbidden("spec.ephemeralContainers", words)])
    validate_pod(wanted)
    found = [*_ephemeral(current["spec"], wanted["spec"]), *static.claimed(wanted, current)]
    if errors := found:
        raise FieldErrors(f'Pod "{name}"', errors)


def _update(old: Object, new: Object) -> Errors:
    for group in ("containers", "initContainers"):
        if len(old.get(group) or []) != len(new.get(group) or []):
            yield forbidden(f"spec.{group}", "pod updates may not add or remove containers")
            return
    yield from _deadline(old.get("activeDeadlineSeconds"), new.get("activeDeadlineSeconds"))
    have = new.get("tolerations") or []
    if any(t not in have for t in old.get("tolerations") or []):
        yield forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        )
    grace = "terminationGracePeriodSeconds"
    allowed = (old.get(grace) or 0) < 0 and new.get(grace) == 1
    if _immutable(old) != _immutable(new) or not (old.get(grace) == new.get(grace) or allowed):
        yield forbidden("spec", _WORDS)


def _deadline(old: int | None, new: int | None) -> Errors:
    path = "spec.activeDeadlineSeconds"
    if new is None:
        if old is not None:
            yield invalid(path, "null", "must not update from a positive integer to nil value")
    elif new < 1:
        yield invalid(path, new, "must be greater than or equal to 1")
    elif old is not None and new > old:
        yield invalid(path, new, "must be less than or equal to previous value")


def _immutable(spec: Object) -> Object:
    kept = {k: v for k, v in spec.items() if k not in _MUTABLE}
    for group in ("containers", "initContainers"):
        if kept.get(group):
            kept[group] = [{k: v for k, v in c.items() if k != "image"} for c in kept[group]]
    return kept


def _ephemeral(old: Object, new: Object) -> Errors:
    path = "spec.ephemeralContainers"
    found = {c["name"]: c for c in new.get("ephemeralContainers") or []}
    for container in old.get("ephemeralContainers") or []:
        name = container["name"]
        if name not in found:
            yield forbidden(path, f'existing ephemeral containers "{name}" may not be removed')
        elif found[name] != container:
            yield forbidden(path, f'existing ephemeral containers "{name}" may not be changed')
    if {k: v for k, v in old.items() if k != "ephemeralContainers"} != {
        k: v for k, v in new.items() if k != "ephemeralContainers"
    }:
        yield forbidden("spec", "only ephemeral containers may be changed through this subresource")
