"""Static pods and their mirrors: the annotations that tell them apart (K8S pkg/kubelet/types).

A static pod comes from a file on the node; the API shows a *mirror* of it. Its uid is the hash of where it comes from and
what it says; the mirror has a uid of its own, and names that hash in its annotations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SOURCE = "kubernetes.io/config.source"  # "file"; "api" is not written
HASH = "kubernetes.io/config.hash"  # the static pod's uid
SEEN = "kubernetes.io/config.seen"  # RFC 3339
MIRROR = "kubernetes.io/config.mirror"  # on the mirror alone: the same hash


def mirrored(obj: Mapping[str, Any]) -> str:
    """Return the uid of the static pod that *obj* is the mirror of, "" for any other pod."""
    return str((obj["metadata"].get("annotations") or {}).get(MIRROR, ""))


def node_uid(obj: Mapping[str, Any]) -> str:
    """Return the uid under which the node knows the pod: the static pod's for a mirror."""
    return mirrored(obj) or str(obj["metadata"]["uid"])
