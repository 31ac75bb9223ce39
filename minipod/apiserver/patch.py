"""Patches: JSON merge patch (RFC 7386), JSON patch (RFC 6902), strategic merge patch with the merge keys of core/v1."""

from __future__ import annotations

import copy
import json
from typing import Any

from minipod.errors import FailedPrecondition

# List fields that strategic merge patch merges by a key (core/v1 types.go, patchMergeKey).
MERGE_KEYS = {
    "containers": "name", "initContainers": "name", "ephemeralContainers": "name", "env": "name",
    "volumes": "name", "volumeMounts": "mountPath", "ports": "containerPort", "conditions": "type",
    "hostAliases": "ip", "imagePullSecrets": "name", "ownerReferences": "uid", "podIPs": "ip",
}  # fmt: skip


def apply(current: dict[str, Any], content: bytes, kind: str) -> dict[str, Any]:
    """Return *current* patched. Raises FailedPrecondition for a patch that can't be read or applied."""
    try:
        wanted = json.loads(content)
    except ValueError as e:
        raise FailedPrecondition(f"the patch is not JSON: {e}") from e
    target = copy.deepcopy(current)
    if kind == "application/json-patch+json":
        for operation in wanted:
            target = _operation(target, operation)
        return target
    if kind == "application/merge-patch+json":
        return merge_object(target, wanted, strategic=False)
    if kind == "application/strategic-merge-patch+json":
        return merge_object(target, wanted, strategic=True)
    raise FailedPrecondition(f"minipod does not know patches of type {kind} yet")


def merge_object(target: dict[str, Any], wanted: Any, *, strategic: bool) -> dict[str, Any]:
    """Merge a whole object. Raises FailedPrecondition when the patch is none."""
    if not isinstance(wanted, dict):
        raise FailedPrecondition("the patch must be a JSON object")
    merge(target, wanted, strategic=strategic)
    return target


def merge(target: Any, wanted: Any, *, strategic: bool) -> Any:
    """Merge objects field by field; null removes; strategic lists merge by their key."""
    if not isinstance(wanted, dict) or not isinstance(target, dict):
        return wanted
    for key, value in wanted.items():
        if value is None:
            target.pop(key, None)
        elif strategic and isinstance(value, list) and key in MERGE_KEYS and key in target:
            target[key] = _merge_list(target[key], value, MERGE_KEYS[key])
        elif strategic and key == "$patch":
            continue
        else:
            target[key] = merge(target.get(key, {}), value, strategic=strategic)
    return target


def _merge_list(target: list[Any], wanted: list[Any], key: str) -> list[Any]:
    merged = list(target)
    for item in wanted:
        at = next((i for i, old in enumerate(merged) if old.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            merged = [old for old in merged if old.get(key) != item.get(key)]
        elif at is None:
            merged.append(item)
        else:
            merged[at] = merge(merged[at], item, strategic=True)
    return merged


def _operation(target: Any, operation: dict[str, Any]) -> Any:
    path = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
    verb = operation["op"]
    if verb in ("move", "copy"):
        source = [p.replace("~1", "/").replace("~0", "~") for p in operation["from"].split("/")[1:]]
        value = copy.deepcopy(_look(target, source))
        if verb == "move":
            target = _set(target, source, "remove", None)
        return _set(target, path, "add", value)
    if verb == "test":
        if _look(target, path) != operation.get("value"):
            raise FailedPrecondition(f"the test of {operation['path']} failed")
        return target
    return _set(target, path, verb, operation.get("value"))


def _look(target: Any, path: list[str]) -> Any:
    for part in path:
        try:
            target = target[int(part)] if isinstance(target, list) else target[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise FailedPrecondition(f"the patch names a missing path: /{'/'.join(path)}") from None
    return target


def _set(target: Any, path: list[str], verb: str, value: Any) -> Any:
    if not path:
        return value
    parent, last = _look(target, path[:-1]), path[-1]
    if isinstance(parent, list):
        index = len(parent) if last == "-" else int(last)
        if verb == "add":
            parent.insert(index, value)
        elif verb == "remove":
            del parent[index]
        else:
            parent[index] = value
        return target
    if verb in ("remove", "replace") and last not in parent:
        raise FailedPrecondition(f"the patch names a missing path: /{'/'.join(path)}")
    if verb == "remove":
        del parent[last]
    else:
        parent[last] = value
    return target
