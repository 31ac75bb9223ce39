"""Label and field selectors of list and watch (apimachinery/pkg/labels, pkg/fields): equality and set based."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from minipod.errors import FailedPrecondition

Object = dict[str, Any]
Match = Callable[[Object], bool]

_SET = re.compile(r"^\s*([^\s!=,]+)\s+(in|notin)\s+\(([^)]*)\)\s*$")
_SPLIT = re.compile(r",(?![^(]*\))")


def label_selector(text: str) -> Match:
    """Return whether an object's labels fit *text*. Raises FailedPrecondition (a 400)."""
    tests = [_label_test(part.strip()) for part in _SPLIT.split(text) if part.strip()]
    return lambda obj: all(t(obj["metadata"].get("labels") or {}) for t in tests)


def _label_test(part: str) -> Callable[[dict[str, str]], bool]:
    if match := _SET.match(part):
        key, word, listed = match.groups()
        values = {v.strip() for v in listed.split(",")}
        if word == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    for sign, equal in (("!=", False), ("==", True), ("=", True)):
        key, found, value = part.partition(sign)
        if found:
            key, value = key.strip(), value.strip()
            return lambda labels: (labels.get(key) == value) is equal
    if part.startswith("!"):
        return lambda labels: part[1:].strip() not in labels
    if " " in part:
        raise FailedPrecondition(f"unable to parse label selector requirement {part!r}")
    return lambda labels: part in labels


def field_selector(text: str) -> Match:
    """Return whether an object's fields fit *text*: dotted paths, = and !=."""
    tests = []
    for part in filter(None, text.split(",")):
        for sign, equal in (("!=", False), ("==", True), ("=", True)):
            path, found, value = part.partition(sign)
            if found:
                tests.append((path.strip(), value.strip(), equal))
                break
        else:
            raise FailedPrecondition(f"invalid field selector {part!r}")
    return lambda obj: all((str(_field(obj, p)) == v) is equal for p, v, equal in tests)


def _field(obj: Object, path: str) -> Any:
    value: Any = obj
    for name in path.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return value
