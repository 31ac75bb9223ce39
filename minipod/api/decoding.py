"""Decodes an object along its type, as a typed API server does: finds unknown fields and wrong types, drops nulls, normalizes quantities.

One walk finds everything: `unknown` holds the paths of fields that Kubernetes does not have (and are removed), `wrong` what has
another type than the table says, and `mistyped` its paths. What unknown fields mean is the caller's choice (fieldValidation); wrong
types are always errors: they are removed too, so that the rules can look at the rest (in a list, something empty keeps the place).
Changes the object in place. Owns no rule about values: that is `validation`.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from minipod.api import quantity, types
from minipod.errors import InvalidSpec

FOUND_MAX, PATH_MAX = 100, 300  # what is told of one object: enough to mend it
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_RANGE = {"int32": 1 << 31, "int64": 1 << 63}
_GO = {
    "str": "string",
    "bytes": "[]uint8",
    "time": "v1.Time",
    "float": "float64",
}  # as messages call them
_QUANTITY_WORDS = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)


@dataclass(slots=True)
class Findings:
    """What one walk found, in the order of the object's fields."""

    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    mistyped: list[str] = field(default_factory=list)


def decode(obj: dict[str, Any], type_name: str) -> Findings:
    """Walk *obj* along the type *type_name* and make it clean in place."""
    findings = Findings()
    _object(obj, types.object_type(type_name), "", findings)
    return findings


def _object(value: dict[str, Any], kind: types.Type, path: str, findings: Findings) -> None:
    fields = kind.fields
    for name in list(value):
        item = value[name]
        known = fields.get(name)
        where = f"{path}.{name}" if path else name
        if known is None:
            if len(findings.unknown) < FOUND_MAX:
                findings.unknown.append(f'unknown field "{where[:PATH_MAX]}"{_hint(name, kind)}')
            del value[name]
        elif item is None:
            del value[name]
        else:
            kept = (
                _container(item, known.container, known.element, where, findings)
                if known.container
                else _value(item, known.element, where, findings)
            )
            if kept is None:
                del value[name]
            else:
                value[name] = kept


def _hint(name: str, kind: types.Type) -> str:
    import difflib  # only for a typing error

    near = difflib.get_close_matches(name, kind.fields, 1) if len(name) <= 64 else []
    return f' (did you mean "{near[0]}"?)' if near else ""


def _container(value: Any, container: str, element: str, path: str, findings: Findings) -> Any:
    if container == "list":
        if not isinstance(value, list):
            return _wrong(value, "[]" + _GO.get(element, element), path, findings)
        for i, item in enumerate(value):
            kept = _element(item, element, f"{path}[{i}]", findings)
            value[i] = _empty(element) if kept is None else kept
        return value
    if not isinstance(value, dict):
        return _wrong(value, "map[string]" + _GO.get(element, element), path, findings)
    for key in list(value):
        kept = value[key]
        if kept is not None or element == "str":
            kept = _element(kept, element, f"{path}[{key}]", findings)
        if kept is None:
            del value[key]
        else:
            value[key] = kept
    return value


def _element(item: Any, element: str, path: str, findings: Findings) -> Any:
    """An item of a list or map: null is the type's zero value."""
    if element[:2] == "[]":
        return _container(item, "list", element[2:], path, findings)
    if item is None and (element == "str" or not isinstance(types.lookup(element), str)):
        return _empty(element)
    return (
        _wrong(item, element, path, findings)
        if item is None
        else _value(item, element, path, findings)
    )


def _empty(element: str) -> Any:
    if element[:2] == "[]":
        return []
    kind = types.lookup(element)
    if isinstance(kind, types.Type):
        return {}
    return {"bool": False, "int32": 0, "int64": 0, "float": 0, "intstr.IntOrString": 0}.get(
        kind, "0" if "uantity" in kind else ""
    )


def _value(value: Any, element: str, path: str, findings: Findings) -> Any:
    kind = types.lookup(element)
    if isinstance(kind, types.Type):
        if not isinstance(value, dict):
            return _wrong(value, kind.name.rpartition(".")[2], path, findings)
        _object(value, kind, path, findings)
        return value
    return _scalar(value, kind, path, findings)


def _scalar(value: Any, kind: str, path: str, findings: Findings) -> Any:
    match kind:
        case "any":
            return value
        case "str" | "bytes" | "time":
            return _text(value, kind, path, findings)
        case "bool":
            fits, words = isinstance(value, bool), "bool"
        case "int32" | "int64":
            fits, words = _is_int(value, _RANGE[kind]), kind
        case "float":
            fits, words = isinstance(value, (int, float)) and type(value) is not bool, "float64"
        case "intstr.IntOrString":
            fits, words = isinstance(value, str) or _is_int(value, _RANGE["int32"]), kind
        case _:
            return _quantity(value, path, findings)
    return value if fits else _wrong(value, words, path, findings)


def _is_int(value: Any, bound: int) -> bool:
    return type(value) is int and -bound <= value < bound


def _text(value: Any, kind: str, path: str, findings: Findings) -> Any:
    if not isinstance(value, str):
        return _wrong(
            value, {"bytes": "[]byte", "time": "Time"}.get(kind, "string"), path, findings
        )
    if kind == "time" and not _is_time(value):
        words = f'parsing time "{value[:PATH_MAX]}" as RFC 3339: cannot parse'
        return _unreadable(words, path, findings)
    if kind == "bytes":
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return _unreadable("illegal base64 data", path, findings)
    return value


def _is_time(text: str) -> bool:
    """Whether everybody who reads it later can: a month 13 has the form of a time, too."""
    if not _TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _quantity(value: Any, path: str, findings: Findings) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return _wrong(value, "resource.Quantity", path, findings)
    try:
        return quantity.canonical(str(value))
    except InvalidSpec:
        return _unreadable(_QUANTITY_WORDS, path, findings)


def _wrong(value: Any, wanted: str, path: str, findings: Findings) -> None:
    found = {bool: "bool", str: "string", dict: "object", list: "array", type(None): "null"}.get(
        type(value), f"number {value}"[:60]
    )
    words = (
        f"json: cannot unmarshal {found} into Go struct field {path[:PATH_MAX]} of type {wanted}"
    )
    _tell(words, path, findings)


def _unreadable(words: str, path: str, findings: Findings) -> None:
    _tell(f"{path[:PATH_MAX]}: {words}", path, findings)


def _tell(words: str, path: str, findings: Findings) -> None:
    if len(findings.wrong) < FOUND_MAX:
        findings.wrong.append(words)
        findings.mistyped.append(path)
