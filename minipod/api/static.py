"""Static pods and their mirrors: the annotations that tell them apart (K8S pkg/kubelet/types).

A static pod comes from a file on the node; the API shows a *mirror* of it. Its uid is the hash of where it comes from and
what it says; the mirror has a uid of its own, and names that hash in its annotations.

The node believes these annotations (the mirror's uid says whose containers an exec enters), so nobody else may write them: `claimed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from minipod.api.fields import FieldError
from minipod.api.messages import forbidden

SOURCE = "kubernetes.io/config.source"  # "file"; "api" is not written
HASH = "kubernetes.io/config.hash"  # the static pod's uid
SEEN = "kubernetes.io/config.seen"  # RFC 3339
MIRROR = "kubernetes.io/config.mirror"  # on the mirror alone: the same hash


def mirrored(obj: Mapping[str, Any]) -> str:
    """Return the uid of the static pod that *obj* is the mirror of, "" for any other pod."""
    return str(_annotations(obj).get(MIRROR, ""))


def node_uid(obj: Mapping[str, Any]) -> str:
    """Return the uid under which the node knows the pod: the static pod's for a mirror."""
    return mirrored(obj) or str(obj["metadata"]["uid"])


def claimed(
    wanted: Mapping[str, Any], current: Mapping[str, Any] | None = None
) -> Iterator[FieldError]:
    """Yield what a client's pod, new or changed, says of being static (ValidatePodSpecificAnnotationUpdates)."""
    new, old = _annotations(wanted), _annotations(current or {})
    for name in (MIRROR, SOURCE):
        if new.get(name) != old.get(name) and not (name == SOURCE and new.get(name) != "file"):
            yield forbidden(
                f"metadata.annotations[{name}]", "only the node says which pods are static"
            )


def _annotations(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}
