"""Walks an object along the field table and finds every error at once: unknown fields, wrong types, fields not supported.

What has the right type goes on to the rules: `Findings.rest` is the object without the values that have another type. Nothing
is changed in place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from minipod.api import quantity
from minipod.api.fields import FieldError
from minipod.api.pod_schema import TABLE
from minipod.errors import InvalidSpec

WORDS = {
    "str": (str, "a string"), "int": (int, "an integer"), "bool": (bool, "a boolean (true or false)"),
}  # fmt: skip


@dataclass(slots=True)
class Type:
    """One entry of the table."""

    fields: dict[str, str] = field(default_factory=dict)
    later: frozenset[str] = frozenset()
    meaningless: dict[str, str] = field(default_factory=dict)  # name -> why
    refused: dict[str, str] = field(default_factory=dict)  # name -> why
    limits: dict[str, str] = field(default_factory=dict)  # name -> what of it is not supported


@cache
def types() -> dict[str, Type]:
    """Parse the table."""
    found: dict[str, Type] = {}
    current = Type()
    for line in TABLE.splitlines():
        words = line.split()
        if not words:
            continue
        if not line.startswith(" "):
            current = found[words[0]] = Type()
        elif words[0] == "later:":
            current.later |= frozenset(words[1:])
        elif words[1] == "~":
            current.meaningless[words[0]] = " ".join(words[2:])
        elif words[1] == "!":
            current.refused[words[0]] = " ".join(words[2:])
        else:
            current.fields[words[0]] = words[1]
            if words[2:]:
                current.limits[words[0]] = " ".join(words[2:])
    return found


@dataclass(slots=True)
class Findings:
    """What a walk found; with *lenient* unsupported fields are warnings."""

    lenient: bool = False
    errors: list[FieldError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    mistyped: list[str] = field(default_factory=list)  # paths of what `rest` leaves out
    rest: dict[str, Any] = field(default_factory=dict)


def check(obj: Any, *, lenient: bool = False) -> Findings:
    """Walk a Pod."""
    findings = Findings(lenient)
    findings.rest = _walk(obj, "Pod", "", findings) or {}
    return findings


def _walk(value: Any, kind: str, path: str, findings: Findings) -> Any:
    """Return what is right of *value*; None when nothing is."""
    if kind == "any" or value is None:
        return value
    if kind.startswith("[]"):
        if not isinstance(value, list):
            return _wrong(value, "a list", path, findings)
        found = (_walk(v, kind[2:], f"{path}[{i}]", findings) for i, v in enumerate(value))
        return [zero(kind[2:]) if item is None else item for item in found]
    if kind in types():
        return _walk_object(value, types()[kind], path, findings)
    return _scalar(value, kind, path, findings)


def zero(kind: str) -> Any:
    """Return what stands for nothing in a list of *kind*: the items behind it keep their index."""
    if kind in WORDS:
        return WORDS[kind][0]()
    return {"any": None, "intOrString": 0, "quantity": "0"}.get(
        kind, [] if kind[:2] == "[]" else {}
    )


DEFAULTS = {"schedulerName": "default-scheduler", "preemptionPolicy": "PreemptLowerPriority"}


def _walk_object(value: Any, kind: Type, path: str, findings: Findings) -> Any:
    if not isinstance(value, dict):
        return _wrong(value, "an object", path, findings)
    rest = {}
    for name, item in value.items():
        inner = f"{path}.{name}" if path else str(name)
        if name in kind.fields:
            kept = _walk(item, kind.fields[name], inner, findings)
            if kept is not None or item is None:
                rest[name] = kept
            continue
        rest[name] = item
        if name in kind.meaningless:
            if item == DEFAULTS.get(name):
                continue  # as in every pod that was read from an API: it asks for nothing
            findings.warnings.append(f"{inner}: ignored: {kind.meaningless[name]}")
        elif name in kind.refused:
            _unsupported(inner, f"not supported by minipod: {kind.refused[name]}", findings)
        elif name in kind.later:
            _unsupported(inner, "known to Kubernetes, but not supported by minipod yet", findings)
        else:
            import difflib  # only for a typing error

            near = difflib.get_close_matches(str(name), kind.fields, 1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            findings.errors.append(FieldError(inner, f"unknown field{hint}", "FieldValueInvalid"))
    return rest


def _unsupported(path: str, text: str, findings: Findings) -> None:
    if findings.lenient:
        findings.warnings.append(f"{path}: {text}, ignored")
    else:
        findings.errors.append(FieldError(path, text, "FieldValueNotSupported"))


def _scalar(value: Any, kind: str, path: str, findings: Findings) -> Any:
    if kind in WORDS:
        wanted, words = WORDS[kind]
        right = isinstance(value, wanted) and (kind != "int" or not isinstance(value, bool))
        if right and kind == "str" and "\0" in value:
            return _no_text(value, path, findings)
        return value if right else _wrong(value, words, path, findings)
    if kind == "intOrString":
        right = isinstance(value, (int, str)) and not isinstance(value, bool)
        return value if right else _wrong(value, "a port number or name", path, findings)
    if kind == "quantity":
        return _quantity(value, path, findings)
    if not isinstance(value, dict):
        return _wrong(value, "a map", path, findings)
    item_kind = "str" if kind == "map" else "quantity"
    found = {k: _scalar(v, item_kind, f"{path}[{k}]", findings) for k, v in value.items()}
    return {k: v for k, v in found.items() if v is not None}


def _no_text(value: str, path: str, findings: Findings) -> None:
    """The kernel ends every string there: no path, argument or variable can hold it."""
    findings.errors.append(
        FieldError(path, f"Invalid value: {value!r}: must not contain a NUL byte")
    )
    findings.mistyped.append(path)


def _quantity(value: Any, path: str, findings: Findings) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return _wrong(value, 'a quantity such as "100m" or "64Mi"', path, findings)
    try:
        quantity.parse(str(value))
    except InvalidSpec as e:
        findings.errors.append(FieldError(path, e.detail))
        findings.mistyped.append(path)
        return None
    return value


def _wrong(value: Any, wanted: str, path: str, findings: Findings) -> None:
    shown = repr(value) if isinstance(value, (str, int, float, bool)) else type(value).__name__
    names = {"dict": "an object", "list": "a list"}
    message = f"expected {wanted}, found {names.get(shown, shown)}"
    findings.errors.append(FieldError(path, message, "FieldValueTypeInvalid"))
    findings.mistyped.append(path)
