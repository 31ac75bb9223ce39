"""Frozen dataclasses to JSON and back, by their type annotations.

Understands what the specs use: dataclasses, enums, tuples (of one type, or fixed), dicts, Optional,
bytes (as latin-1 text) and scalars. A surplus or missing field is an InvalidSpec with its path: records
that an older minipod wrote are refused, not guessed at.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from functools import cache
from typing import Any, TypeVar

from minipod.errors import InvalidSpec

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return *value* as what json can write."""
    if dataclasses.is_dataclass(value):
        kind: Any = type(value)
        return {f: to_plain(getattr(value, f)) for f in _fields(kind)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def dumps(value: Any) -> bytes:
    """Encode *value* as one JSON text."""
    return json.dumps(to_plain(value), separators=(",", ":")).encode()


def loads(cls: type[T], text: bytes | str) -> T:
    """Decode *text* into *cls*; raise InvalidSpec naming the path of what does not fit."""
    decoded: T = from_plain(cls, json.loads(text), "")
    return decoded


@cache
def _fields(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def from_plain(cls: Any, raw: Any, path: str) -> Any:  # noqa: PLR0911 one return for each kind of type
    """Build a value of type *cls* from plain JSON data."""
    if dataclasses.is_dataclass(cls):
        return _dataclass(cls, raw, path)
    origin = typing.get_origin(cls)
    if origin in (types.UnionType, typing.Union):
        options = [a for a in typing.get_args(cls) if a is not type(None)]
        return None if raw is None else from_plain(options[0], raw, path)
    if origin is tuple:
        return _tuple(typing.get_args(cls), raw, path)
    if origin is dict:
        item = typing.get_args(cls)[1]
        return {key: from_plain(item, v, f"{path}.{key}") for key, v in raw.items()}
    if isinstance(cls, type) and issubclass(cls, enum.Enum):
        return cls(raw)
    if cls is bytes:
        return raw.encode("latin-1")
    return raw


def _dataclass(cls: Any, raw: Any, path: str) -> Any:
    fields = _fields(cls)
    if not isinstance(raw, dict):
        raise InvalidSpec(f"expected an object, found {type(raw).__name__}", path=path)
    if unknown := raw.keys() - fields.keys():
        raise InvalidSpec(f"unknown fields {sorted(unknown)}", path=path or cls.__name__)
    try:
        return cls(
            **{name: from_plain(fields[name], v, f"{path}.{name}") for name, v in raw.items()}
        )
    except TypeError as e:
        raise InvalidSpec(str(e), path=path or cls.__name__) from e


def _tuple(args: tuple[Any, ...], raw: Any, path: str) -> tuple[Any, ...]:
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(from_plain(args[0], v, f"{path}[{i}]") for i, v in enumerate(raw))
    return tuple(from_plain(a, v, path) for a, v in zip(args, raw, strict=True))
