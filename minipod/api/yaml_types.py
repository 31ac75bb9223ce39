"""YAML as Kubernetes' clients read it: JSON's types alone, by the forms of sigs.k8s.io/yaml.

PyYAML takes 2020-01-01 for a date and 12:30 for 750, which Kubernetes takes for text; 1e3 and 0o644 for text, which are numbers there.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import yaml

VALUES_MAX: Final = 1_000_000  # in one document: aliases make much of a little
_EXACT: Final = 1 << 53  # below it a float is the whole number that it looks like

_INT = re.compile(r"[-+]?(0b[01][01_]*|0o?[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0|[1-9][0-9_]*)$")
_FLOAT = re.compile(
    r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
)
_PREFIX = "tag:yaml.org,2002:"


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader, of libyaml where it is there, with those forms."""


def _int(_: Any, node: yaml.ScalarNode) -> int:
    text = node.value.replace("_", "").lower()
    sign, digits = (-1 if text[0] == "-" else 1), text.lstrip("+-")
    old = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()  # 0644, without the o
    return sign * int("0o" + digits[1:] if old else digits, 0)


def _float(_: Any, node: yaml.ScalarNode) -> float:
    text = node.value.lower()
    number = float(text.replace(".inf", "inf").replace(".nan", "nan"))
    whole = math.isfinite(number) and number == int(number) and abs(number) < _EXACT
    return int(number) if whole else number


Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.removeprefix(_PREFIX) not in ("timestamp", "int", "float", "value")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(f"{_PREFIX}int", _INT, list("-+0123456789"))
Loader.add_implicit_resolver(f"{_PREFIX}float", _FLOAT, list("-+.0123456789"))
Loader.add_constructor(f"{_PREFIX}int", _int)
Loader.add_constructor(f"{_PREFIX}float", _float)


class StrictLoader(Loader):
    """Refuses a key that is twice in a mapping: the first one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    words = f"{key.value!r} is there twice"
                    raise yaml.constructor.ConstructorError(None, None, words, key.start_mark)
                seen.add((key.tag, key.value))
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


def plain(document: Any) -> Any:
    """Return *document* with JSON's types only: keys are strings. Raises ValueError for others, and for more than VALUES_MAX values."""
    left = VALUES_MAX

    def of(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"more than {VALUES_MAX} values")
        if isinstance(value, dict):
            return {k if isinstance(k, str) else _key(k): of(v) for k, v in value.items()}
        if isinstance(value, list):
            return [of(v) for v in value]
        if value is None or isinstance(value, (str, bool, int)):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        kind = "a number without end" if isinstance(value, float) else type(value).__name__
        raise ValueError(f"{kind} has no place in an object")

    try:
        return of(document)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    if isinstance(key, (int, float)):
        return str(key)
    raise ValueError("keys must be strings")
