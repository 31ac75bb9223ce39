"""The rules of an object's life that all kinds share: birth, update, deletion (registry/rest/{create,update,delete}.go). Pure.

Deletion has three endings: REMOVE (nothing waits for it), MARK (a grace period or finalizers: deletionTimestamp is set), KEEP (it
is being deleted already and nothing changes).
"""

from __future__ import annotations

import enum
import random
import uuid
from dataclasses import dataclass
from typing import Any

from minipod.api.meta import now
from minipod.apiserver.resources import Resource
from minipod.errors import Conflict

Object = dict[str, Any]

SUFFIX = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
SYSTEM = ("uid", "creationTimestamp", "namespace", "name", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")  # fmt: skip
TERMINAL = ("Succeeded", "Failed")
# What a path of its own changes.
PARTS = {
    "status": "status",
    "approval": "status",
    "ephemeralcontainers": "spec",
    "resize": "spec",
}
GRACE_MAX = (1 << 31) - 1  # seconds: a deletionTimestamp has a year of four digits


class Ending(enum.Enum):
    """What a deletion comes to."""

    REMOVE = enum.auto()
    MARK = enum.auto()
    KEEP = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOptions:
    """metav1.DeleteOptions, as far as it changes what happens."""

    grace_period: int | None = None  # seconds
    uid: str | None = None
    resource_version: str | None = None
    propagation: str | None = None


def generated_name(prefix: str) -> str:
    """Return a name for generateName: at most 63 characters, five of them random."""
    return prefix[:58] + "".join(random.choices(SUFFIX, k=5))  # noqa: S311 a name, no secret


def born(resource: Resource, namespace: str, obj: Object) -> None:
    """Set what the system sets on a new object."""
    obj.setdefault("apiVersion", resource.api_version)
    obj.setdefault("kind", resource.kind)
    metadata = obj.setdefault("metadata", {})
    for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"):
        metadata.pop(name, None)
    # Unique, not secret: without a system call for each.
    metadata["uid"] = str(uuid.UUID(int=random.getrandbits(128), version=4))
    metadata["creationTimestamp"] = now()
    if namespace:
        metadata["namespace"] = namespace
    if resource.has_generation:
        metadata["generation"] = 1


def updated(resource: Resource, current: Object, wanted: Object, subresource: str) -> Object:
    """Return what an update makes of *current*: each path changes its own part only."""
    old = current["metadata"]
    if subresource in PARTS or subresource == "finalize":
        return _part_updated(current, wanted, subresource)
    merged = {**wanted, "apiVersion": current["apiVersion"], "kind": current["kind"]}
    if resource.has_status:
        merged.pop("status", None)
        if "status" in current:
            merged["status"] = current["status"]
    merged |= {name: current.get(name) or {} for name in resource.kept}
    metadata = {k: v for k, v in wanted["metadata"].items() if k not in SYSTEM}
    metadata |= {k: old[k] for k in SYSTEM if k in old}
    metadata["resourceVersion"] = old["resourceVersion"]
    metadata.pop("generation", None)
    merged["metadata"] = metadata
    return _generated(current, merged)


def _part_updated(current: Object, wanted: Object, subresource: str) -> Object:
    """Return *current* with one part of *wanted*, and with what that says of who manages it: nothing else of the metadata."""
    merged = {**current, "metadata": {**current["metadata"]}}
    if subresource == "finalize":
        finalizers = (wanted.get("spec") or {}).get("finalizers") or []
        merged["spec"] = {**(current.get("spec") or {}), "finalizers": finalizers}
    else:
        merged[PARTS[subresource]] = wanted.get(PARTS[subresource]) or {}
    if "managedFields" in wanted.get("metadata", {}):
        merged["metadata"]["managedFields"] = wanted["metadata"]["managedFields"]
    return _generated(current, merged)


def _generated(current: Object, merged: Object) -> Object:
    """Count a change of the spec in the generation."""
    before = current["metadata"].get("generation")
    if before is not None:
        merged["metadata"]["generation"] = before + _spec_changed(current, merged)
    return merged


def _spec_changed(current: Object, wanted: Object) -> bool:
    skipped = ("metadata", "status", "apiVersion", "kind")
    return {k: v for k, v in current.items() if k not in skipped} != {
        k: v for k, v in wanted.items() if k not in skipped
    }


def same(current: Object, wanted: Object) -> bool:
    """Whether an update changes nothing but when a manager last wrote (a no-op is no new version)."""
    if wanted["metadata"].get("managedFields") == current["metadata"].get("managedFields"):
        return wanted == current
    return _timeless(current) == _timeless(wanted)


def _timeless(obj: Object) -> Object:
    metadata = {**obj["metadata"]}
    managed = metadata.get("managedFields") or []
    metadata["managedFields"] = [{k: v for k, v in m.items() if k != "time"} for m in managed]
    return {**obj, "metadata": metadata}


def finished(resource: Resource, obj: Object) -> bool:
    """Whether an object that is being deleted has nothing left to wait for."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or _waits(resource, obj):
        return False
    return not metadata.get("deletionGracePeriodSeconds")


def _waits(resource: Resource, obj: Object) -> bool:
    if obj["metadata"].get("finalizers"):
        return True
    return resource.kind == "Namespace" and bool((obj.get("spec") or {}).get("finalizers"))


def check_preconditions(resource: Resource, obj: Object, options: DeleteOptions) -> None:
    """Raise Conflict unless the object is the one that the client means."""
    metadata = obj["metadata"]
    for words, field, wanted in (
        ("UID", "uid", options.uid),
        ("ResourceVersion", "resourceVersion", options.resource_version),
    ):
        if wanted is not None and metadata[field] != wanted:
            raise Conflict(
                f'Operation cannot be fulfilled on {resource.qualified} "{metadata["name"]}": Precondition failed: {words} in'
                f" precondition: {wanted}, {words} in object meta: {metadata[field]}"
            )


def deletion(resource: Resource, obj: Object, options: DeleteOptions) -> Ending:
    """Decide what a DELETE comes to, and mark *obj* for it."""
    metadata = obj["metadata"]
    changed = _set_collector_finalizers(metadata, options.propagation)
    grace = _grace(resource, obj, options.grace_period)
    earlier = metadata.get("deletionGracePeriodSeconds")
    if metadata.get("deletionTimestamp"):
        if earlier and grace < earlier and (options.grace_period is not None or grace == 0):
            metadata["deletionTimestamp"] = now(grace)
            metadata["deletionGracePeriodSeconds"] = grace
            changed = True
    else:
        metadata["deletionTimestamp"] = now(grace)
        metadata["deletionGracePeriodSeconds"] = grace
        if resource.kind == "Namespace":
            obj.setdefault("status", {})["phase"] = "Terminating"
        if "generation" in metadata:
            metadata["generation"] += 1
        changed = True
    if finished(resource, obj):
        if not resource.graceful:
            # it goes at once: there was no time in which it was being deleted
            del metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"]
        return Ending.REMOVE
    return Ending.MARK if changed else Ending.KEEP


def _grace(resource: Resource, obj: Object, asked: int | None) -> int:
    """Return the grace period in seconds: 0 for what nobody stops (podStrategy.CheckGracefulDelete)."""
    if not resource.graceful:
        return 0
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in TERMINAL:
        return 0
    default: int = spec.get("terminationGracePeriodSeconds", 30)
    return min(max(0, default if asked is None else asked), GRACE_MAX)


def _set_collector_finalizers(metadata: Object, propagation: str | None) -> bool:
    before = metadata.get("finalizers") or []
    if propagation is None:
        return False
    wanted = [f for f in before if f not in (FOREGROUND, ORPHAN)]
    if propagation == "Foreground":
        wanted.append(FOREGROUND)
    elif propagation == "Orphan":
        wanted.append(ORPHAN)
    if wanted:
        metadata["finalizers"] = wanted
    else:
        metadata.pop("finalizers", None)
    return wanted != before
