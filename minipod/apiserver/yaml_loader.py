"""YAML with JSON's types and without aliases: no dates, no expansion, depth limited."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses aliases (they make a small text big) and knows no dates."""

    depth = 0
    limit = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("aliases are not accepted")
        self.depth += 1
        if self.depth > self.limit:
            raise ValueError(f"nested more than {self.limit} levels deep")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(text: str, limit: int) -> Any:
    """Return the one document. Raises yaml.YAMLError, ValueError."""
    loader = _Loader(text)
    loader.limit = limit
    try:
        return _plain(loader.get_single_data())
    finally:
        loader.dispose()


def _plain(value: Any) -> Any:
    """Only JSON's types: keys are strings."""
    if isinstance(value, dict):
        return {k if isinstance(k, str) else _key(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float) and value == value and abs(value) != float("inf"):  # noqa: PLR0124 not a NaN
        return value
    raise ValueError(f"{type(value).__name__} has no place in an object")


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    if isinstance(key, (int, float)):
        return str(key)
    raise ValueError("keys must be strings")
