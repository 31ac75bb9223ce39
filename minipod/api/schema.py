"""Walks an object along the field table and finds every error at once: unknown fields, wrong types, fields not supported."""

from __future__ import annotations

import difflib
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


def check(obj: Any, *, lenient: bool = False) -> Findings:
    """Walk a Pod."""
    findings = Findings(lenient)
    _walk(obj, "Pod", "", findings)
    return findings


def _walk(value: Any, kind: str, path: str, findings: Findings) -> None:
    if kind == "any" or value is None:
        return
    if kind.startswith("[]"):
        if not isinstance(value, list):
            _wrong(value, "a list", path, findings)
            return
        for i, item in enumerate(value):
            _walk(item, kind[2:], f"{path}[{i}]", findings)
    elif kind in types():
        _walk_object(value, types()[kind], path, findings)
    else:
        _scalar(value, kind, path, findings)


def _walk_object(value: Any, kind: Type, path: str, findings: Findings) -> None:
    if not isinstance(value, dict):
        _wrong(value, "an object", path, findings)
        return
    for name, item in value.items():
        inner = f"{path}.{name}" if path else str(name)
        if name in kind.fields:
            _walk(item, kind.fields[name], inner, findings)
        elif name in kind.meaningless:
            findings.warnings.append(f"{inner}: ignored: {kind.meaningless[name]}")
        elif name in kind.refused:
            _unsupported(inner, f"not supported by minipod: {kind.refused[name]}", findings)
        elif name in kind.later:
            _unsupported(inner, "known to Kubernetes, but not supported by minipod yet", findings)
        else:
            near = difflib.get_close_matches(str(name), kind.fields, 1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            findings.errors.append(FieldError(inner, f"unknown field{hint}", "FieldValueInvalid"))


def _unsupported(path: str, text: str, findings: Findings) -> None:
    if findings.lenient:
        findings.warnings.append(f"{path}: {text}, ignored")
    else:
        findings.errors.append(FieldError(path, text, "FieldValueNotSupported"))


def _scalar(value: Any, kind: str, path: str, findings: Findings) -> None:  # noqa: C901, PLR0912 one branch for each type
    if kind in WORDS:
        wanted, words = WORDS[kind]
        if not isinstance(value, wanted) or (kind == "int" and isinstance(value, bool)):
            _wrong(value, words, path, findings)
    elif kind == "intOrString":
        if not isinstance(value, (int, str)) or isinstance(value, bool):
            _wrong(value, "a port number or name", path, findings)
    elif kind == "quantity":
        _quantity(value, path, findings)
    elif not isinstance(value, dict):
        _wrong(value, "a map", path, findings)
    elif kind == "map":
        for key, item in value.items():
            if not isinstance(item, str):
                _wrong(item, "a string", f"{path}[{key}]", findings)
    else:
        for key, item in value.items():
            _quantity(item, f"{path}[{key}]", findings)


def _quantity(value: Any, path: str, findings: Findings) -> None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        _wrong(value, 'a quantity such as "100m" or "64Mi"', path, findings)
        return
    try:
        quantity.parse(str(value))
    except InvalidSpec as e:
        findings.errors.append(FieldError(path, e.detail))


def _wrong(value: Any, wanted: str, path: str, findings: Findings) -> None:
    shown = repr(value) if isinstance(value, (str, int, float, bool)) else type(value).__name__
    names = {"dict": "an object", "list": "a list"}
    message = f"expected {wanted}, found {names.get(shown, shown)}"
    findings.errors.append(FieldError(path, message, "FieldValueTypeInvalid"))
