"""Decodes an object along its type, as a typed API server does: finds unknown fields and wrong types, drops nulls, normalizes quantities.

One walk finds everything: `unknown` holds the paths of fields that Kubernetes does not have (and are removed), `wrong` what has
another type than the table says. What unknown fields mean is the caller's choice (fieldValidation); wrong types are always errors.
Changes the object in place. Owns no rule about values: that is `validation`.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from minipod.api import quantity, types
from minipod.errors import InvalidSpec

FOUND_MAX, PATH_MAX = 100, 300  # what is told of one object: enough to mend it
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_TIME_FRACTION = re.compile(r"\.\d+")
_RANGE = {"int32": 1 << 31, "int64": 1 << 63}
_QUANTITY_WORDS = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)


@dataclass(slots=True)
class Findings:
    """What one walk found, in the order of the object's fields."""

    unknown: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


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
        elif not known.container:
            value[name] = _value(item, known.element, where, findings)
        else:
            _container(item, known.container, known.element, where, findings)


def _hint(name: str, kind: types.Type) -> str:
    near = difflib.get_close_matches(name, kind.fields, 1) if len(name) <= 64 else []
    return f' (did you mean "{near[0]}"?)' if near else ""


def _container(value: Any, container: str, element: str, path: str, findings: Findings) -> None:
    if container == "list":
        if not isinstance(value, list):
            _wrong(value, "[]" + element, path, findings)
            return
        for i, item in enumerate(value):
            value[i] = _element(item, element, f"{path}[{i}]", findings)
        return
    if not isinstance(value, dict):
        _wrong(value, "map[string]" + element, path, findings)
        return
    for key in list(value):
        if value[key] is None and element != "str":
            del value[key]
        else:
            value[key] = _element(value[key], element, f"{path}[{key}]", findings)


def _element(item: Any, element: str, path: str, findings: Findings) -> Any:
    """An item of a list or map: null is the type's zero value."""
    if element[:2] == "[]":
        _container(item, "list", element[2:], path, findings)
        return item
    if item is None:
        item = (
            {} if not isinstance(types.lookup(element), str) else "" if element == "str" else None
        )
        if item is None:
            _wrong(None, element, path, findings)
            return None
    return _value(item, element, path, findings)


def _value(value: Any, element: str, path: str, findings: Findings) -> Any:
    kind = types.lookup(element)
    if isinstance(kind, types.Type):
        if isinstance(value, dict):
            _object(value, kind, path, findings)
        else:
            _wrong(value, kind.name.rpartition(".")[2], path, findings)
        return value
    return _scalar(value, kind, path, findings)


def _scalar(value: Any, kind: str, path: str, findings: Findings) -> Any:  # noqa: C901, PLR0912 one branch for each type
    match kind:
        case "any":
            return value
        case "str" | "bytes" | "time":
            _text(value, kind, path, findings)
        case "bool":
            if not isinstance(value, bool):
                _wrong(value, "bool", path, findings)
        case "int32" | "int64":
            bound = _RANGE[kind]
            if type(value) is not int or not -bound <= value < bound:
                _wrong(value, kind, path, findings)
        case "float":
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                _wrong(value, "float64", path, findings)
        case "intstr.IntOrString":
            if not (
                isinstance(value, str) or (type(value) is int and -(1 << 31) <= value < 1 << 31)
            ):
                _wrong(value, "intstr.IntOrString", path, findings)
        case _:
            return _quantity(value, path, findings)
    return value


def _text(value: Any, kind: str, path: str, findings: Findings) -> None:
    if not isinstance(value, str):
        _wrong(value, {"bytes": "[]byte", "time": "Time"}.get(kind, "string"), path, findings)
    elif kind == "time" and not _is_time(value):
        findings.wrong.append(f'{path}: parsing time "{value}" as RFC 3339: cannot parse')
    elif kind == "bytes":
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            findings.wrong.append(f"{path}: illegal base64 data")


def _is_time(text: str) -> bool:
    if not _TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(_TIME_FRACTION.sub("", text))
    except ValueError:  # the 32nd of a month
        return False
    return True


def _quantity(value: Any, path: str, findings: Findings) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        _wrong(value, "resource.Quantity", path, findings)
        return value
    try:
        return quantity.canonical(str(value))
    except InvalidSpec:
        findings.wrong.append(f"{path}: {_QUANTITY_WORDS}")
        return value


def _wrong(value: Any, wanted: str, path: str, findings: Findings) -> None:
    found = {bool: "bool", str: "string", dict: "object", list: "array", type(None): "null"}.get(
        type(value), f"number {value}"[:60]
    )
    if len(findings.wrong) < FOUND_MAX:
        findings.wrong.append(
            f"json: cannot unmarshal {found} into Go struct field {path[:PATH_MAX]} of type {wanted}"
        )
