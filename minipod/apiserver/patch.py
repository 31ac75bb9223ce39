"""Patches of all types but server-side apply: JSON patch (RFC 6902), JSON merge patch (RFC 7386), strategic merge patch.

What can't be read is a 400; what can't be applied to this object a 422, as kube-apiserver answers.
"""

from __future__ import annotations

from typing import Any

from minipod.api import types
from minipod.apiserver import strategic
from minipod.apiserver.codec import Parsed, copied, parse_json
from minipod.apiserver.status import ApiError, bad_request

Object = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
OPERATIONS_MAX = 10_000


def parse(content: bytes, media: str) -> Parsed:
    """Return the patch, of the right shape, and the fields it gives twice. Raises ApiError 400, 415."""
    if media not in (JSON_PATCH, MERGE_PATCH, STRATEGIC):
        accepted = ", ".join((JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY))
        raise ApiError(
            415,
            "the body of the request was in an unknown format - accepted media types include: "
            + accepted,
        )
    parsed = parse_json(content)
    wanted = parsed.value
    if media != JSON_PATCH:
        if not isinstance(wanted, dict):
            raise bad_request("the patch must be a JSON object")
        return parsed
    if not isinstance(wanted, list):
        raise bad_request("a JSON patch must be a list of operations")
    if len(wanted) > OPERATIONS_MAX:
        raise ApiError(
            413,
            f"The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {len(wanted)}",
        )
    for operation in wanted:
        _check_operation(operation)
    return parsed


def apply(current: Object, wanted: Any, media: str, type_name: str) -> Object:
    """Return *current* patched, a new object. Raises ApiError 400, 422."""
    target = copied(current)
    if media == JSON_PATCH:
        patched = _json_patch(target, wanted)
    elif media == MERGE_PATCH:
        patched = merge_patch(target, wanted)
    else:
        patched = strategic.merge(target, wanted, types.object_type(type_name))
    if not isinstance(patched, dict):
        raise _rejected("the patched object is not an object")
    return patched


def merge_patch(target: Any, wanted: Any) -> Any:
    """RFC 7386: objects merge field by field, null removes, everything else replaces."""
    if not isinstance(wanted, dict):
        return copied(wanted)
    if not isinstance(target, dict):
        target = {}
    for key, value in wanted.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merge_patch(target.get(key), value)
    return target


# -- JSON patch


def _check_operation(operation: Any) -> None:
    if not isinstance(operation, dict):
        raise bad_request("an operation of a JSON patch must be an object")
    verb = operation.get("op")
    if verb not in ("add", "remove", "replace", "move", "copy", "test"):
        raise bad_request(f"unknown operation of a JSON patch: {str(verb)[:40]!r}")
    for name in ("path", "from") if verb in ("move", "copy") else ("path",):
        pointer = operation.get(name)
        if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
            raise bad_request(
                f'"{name}" of a JSON patch must be a pointer such as "/metadata/labels"'
            )
    if verb in ("add", "replace", "test") and "value" not in operation:
        raise bad_request(f'operation "{verb}" needs a value')


def _json_patch(target: Any, operations: list[Object]) -> Any:
    for operation in operations:
        verb, path = operation["op"], _split(operation["path"])
        value = copied(operation.get("value"))
        if verb in ("move", "copy"):
            source = _split(operation["from"])
            if verb == "move" and path[: len(source)] == source and path != source:
                raise _rejected("a value can't be moved into itself")
            value = copied(_look(target, source))
            if verb == "move":
                target = _set(target, source, "remove", None)
            verb = "add"
        if verb == "test":
            if _look(target, path) != value:
                raise _rejected(f"testing value {operation['path']} failed")
        else:
            target = _set(target, path, verb, value)
    return target


def _split(pointer: str) -> list[str]:
    return [p.replace("~1", "/").replace("~0", "~") for p in pointer.split("/")[1:]]


def _look(target: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(target, dict) and part in target:
            target = target[part]
        elif isinstance(target, list):
            target = target[_index(part, len(target) - 1)]
        else:
            raise _missing(path)
    return target


def _index(part: str, last: int) -> int:
    if not (part.isascii() and part.isdigit()) or len(part) > 9 or int(part) > last:
        raise _rejected(f"invalid array index: {part[:40]!r}")
    return int(part)


def _set(target: Any, path: list[str], verb: str, value: Any) -> Any:
    if not path:
        return value
    parent, last = _look(target, path[:-1]), path[-1]
    if isinstance(parent, list):
        index = _position(parent, last, verb)
        if verb == "add":
            parent.insert(index, value)
        elif verb == "remove":
            del parent[index]
        else:
            parent[index] = value
        return target
    if not isinstance(parent, dict) or (verb != "add" and last not in parent):
        raise _missing(path)
    if verb == "remove":
        del parent[last]
    else:
        parent[last] = value
    return target


def _position(parent: list[Any], last: str, verb: str) -> int:
    if verb == "add":
        return len(parent) if last == "-" else _index(last, len(parent))
    return _index(last, len(parent) - 1)


def _missing(path: list[str]) -> ApiError:
    return _rejected(f"the path does not exist: /{'/'.join(path)[:200]}")


def _rejected(words: str) -> ApiError:
    """Return the 422 of a patch that does not fit. It names no object: kubectl would tell that alone, and not what is wrong."""
    message = f"the server rejected our request due to an error in our request: {words}"
    return ApiError(422, message, details={"name": "", "group": "", "kind": ""})
