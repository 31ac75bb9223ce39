"""Frozen dataclasses to JSON and back, by their type annotations.

Understands what the specs use: dataclasses, enums, tuples (of one type, or fixed), dicts, Optional,
bytes (as latin-1 text) and scalars. A surplus or missing field is an InvalidSpec with its path: records
that an older minipod wrote are refused, not guessed at.

A pod's way to execve writes and reads a bundle of some 400 values: what a type needs is found once for each type, and json's own
encoder walks everything but dataclasses.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Callable
from functools import cache, partial
from operator import attrgetter
from typing import Any, TypeVar

from minipod.errors import InvalidSpec

T = TypeVar("T")
Decoder = Callable[[Any, str], Any]  # plain JSON data, its path


def to_plain(value: Any) -> Any:
    """Return *value* as plain JSON data."""
    return json.loads(dumps(value))


def dumps(value: Any) -> bytes:
    """Encode *value* as one JSON text."""
    return _encoder.encode(value).encode()


def _plain(value: Any) -> Any:
    """Return one level of what json does not know itself; it knows enums of numbers and text."""
    kind: Any = type(value)
    if (fields := _fields(kind)) is not None:
        names, values = fields
        return dict(zip(names, values(value), strict=True))
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    raise TypeError(f"{type(value).__name__} is not for JSON")


@cache
def _fields(cls: Any) -> tuple[list[str], Callable[[Any], tuple[Any, ...]]] | None:
    """Return the names of a dataclass' fields, and what gets their values; None for another type."""
    if not dataclasses.is_dataclass(cls):
        return None
    names = [f.name for f in dataclasses.fields(cls)]
    if len(names) < 2:  # attrgetter returns no tuple then
        return names, lambda value: tuple(getattr(value, name) for name in names)
    return names, attrgetter(*names)


_encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=_plain)


def loads(cls: type[T], text: bytes | str) -> T:
    """Decode *text* into *cls*; raise InvalidSpec naming the path of what does not fit."""
    kind: Any = cls
    decode = _decoder(kind)
    raw = json.loads(text)
    decoded: T = raw if decode is None else decode(raw, "")
    return decoded


@cache
def _decoders(cls: Any) -> dict[str, Decoder | None]:
    """Return how each field of a dataclass is decoded, in their order."""
    hints = typing.get_type_hints(cls)
    return {f.name: _decoder(hints[f.name]) for f in dataclasses.fields(cls)}


@cache
def _decoder(cls: Any) -> Decoder | None:  # noqa: PLR0911 one return for each kind of type
    """Return what makes a *cls* of plain JSON data at a path; None where the data is already one."""
    if dataclasses.is_dataclass(cls):
        return partial(_dataclass, cls)
    origin = typing.get_origin(cls)
    if origin in (types.UnionType, typing.Union):
        decode = _decoder(next(a for a in typing.get_args(cls) if a is not type(None)))
        return decode and partial(_optional, decode)
    if origin is tuple:
        return _tuple_decoder(typing.get_args(cls))
    if origin is dict:
        decode = _decoder(typing.get_args(cls)[1])
        return decode and partial(_dict, decode)
    if isinstance(cls, type) and issubclass(cls, enum.Enum):
        return lambda raw, _: cls(raw)
    if cls is bytes:
        return lambda raw, _: raw.encode("latin-1")
    return None


def _optional(decode: Decoder, raw: Any, path: str) -> Any:
    return None if raw is None else decode(raw, path)


def _dict(decode: Decoder, raw: Any, path: str) -> Any:
    return {key: decode(v, f"{path}.{key}") for key, v in raw.items()}


def _dataclass(cls: Any, raw: Any, path: str) -> Any:
    decoders = _decoders(cls)
    if not isinstance(raw, dict):
        raise InvalidSpec(f"expected an object, found {type(raw).__name__}", path=path)
    if unknown := raw.keys() - decoders.keys():
        raise InvalidSpec(f"unknown fields {sorted(unknown)}", path=path or cls.__name__)
    values = {
        name: v if (decode := decoders[name]) is None else decode(v, f"{path}.{name}")
        for name, v in raw.items()
    }
    try:
        return cls(**values)
    except TypeError as e:
        raise InvalidSpec(str(e), path=path or cls.__name__) from e


def _tuple_decoder(args: tuple[Any, ...]) -> Decoder:
    if args[1:] != (Ellipsis,):
        return partial(_tuple, [_decoder(a) for a in args])
    decode = _decoder(args[0])
    return (lambda raw, _: tuple(raw)) if decode is None else partial(_tuple_of_one, decode)


def _tuple_of_one(decode: Decoder, raw: Any, path: str) -> tuple[Any, ...]:
    return tuple(decode(v, f"{path}[{i}]") for i, v in enumerate(raw))


def _tuple(decoders: list[Decoder | None], raw: Any, path: str) -> tuple[Any, ...]:
    return tuple(
        v if decode is None else decode(v, path) for decode, v in zip(decoders, raw, strict=True)
    )
