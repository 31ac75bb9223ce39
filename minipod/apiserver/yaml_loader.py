"""YAML with JSON's types and without aliases: no dates, no expansion, depth limited."""

from __future__ import annotations

import math
from typing import Any

import yaml


class _Loader(yaml.CSafeLoader):
    """CSafeLoader that knows no dates: they would have no place in JSON."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def load(text: str, limit: int) -> Any:
    """Return the one document. Raises yaml.YAMLError, ValueError."""
    _check(text, limit)
    return _plain(yaml.load(text, _Loader))  # noqa: S506 a safe loader


def _check(text: str, limit: int) -> None:
    """Raise ValueError for aliases (they make a small text big) and for what is nested too deeply, before anything is built."""
    depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases are not accepted")  # noqa: TRY004 a defect of the text
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > limit:
                raise ValueError(f"nested more than {limit} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _plain(value: Any) -> Any:
    """Only JSON's types: keys are strings."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else _key(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError(f"{type(value).__name__} has no place in an object")


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    if isinstance(key, (int, float)):
        return str(key)
    raise ValueError("keys must be strings")
