"""Bodies in protobuf: kubectl 1.32 and newer send them for every typed command, and do not fall back (pkg/runtime/serializer/protobuf).

    k8s\\0 | Unknown{1: TypeMeta{1 apiVersion, 2 kind}, 2: the object, 3: contentEncoding, 4: contentType}

Decodes to the object that JSON would have been: names and types are those of `minipod.api.types`, field numbers those of
`protobuf_fields`. Answers are never protobuf. Fields that we do not know are skipped, as protobuf's rule is.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

from minipod.api import types
from minipod.api.types import Field, Type
from minipod.apiserver import wire
from minipod.apiserver.protobuf_fields import TABLE
from minipod.apiserver.status import ApiError, bad_request

Object = dict[str, Any]
Value = int | memoryview

MAGIC = b"k8s\x00"
DEPTH_MAX = 64
_BITS = {"int32": 32, "int64": 64}


class Message:
    """How one message is read: by field number, the field, whether its zero counts, or the message whose fields it holds."""

    def __init__(self, line: str, kind: Type) -> None:
        self.fields: dict[int, tuple[Field, bool]] = {}
        self.inline: dict[int, str] = {}
        for word in line.split()[1:]:
            name, _, rest = word.partition("=")
            number, _, inline = rest.rstrip("*").partition("^")
            if inline:
                self.inline[int(number)] = inline
            else:
                self.fields[int(number)] = kind.fields[name], rest.endswith("*")


@cache
def _lines() -> dict[str, str]:
    return {line.split(" ", 1)[0]: line for line in TABLE.strip().splitlines()}


@cache
def _message(name: str, kind: str) -> Message | None:
    line = _lines().get(name)
    return Message(line, types.object_type(kind)) if line else None


@cache
def _roots() -> dict[tuple[str, str], str]:
    """Return the names of the messages that can be a body, by apiVersion and kind."""
    found = {}
    for name in _lines():
        kind = types.lookup(name) if name in types.names() else ""
        if isinstance(kind, Type) and kind.gvk[2]:
            group, version, word = kind.gvk
            found[f"{group}/{version}" if group else version, word] = name
    return found


def decode(content: bytes) -> Object:
    """Return the object. Raises ApiError 400 for what is none, 415 for a kind that has no table."""
    if not content.startswith(MAGIC):
        raise bad_request("the body of the request is not protobuf: it does not begin with k8s")
    try:
        version, kind, raw = _envelope(memoryview(content)[len(MAGIC) :])
        name = "meta.v1.DeleteOptions" if kind == "DeleteOptions" else _roots().get((version, kind))
        if name is None:
            raise ApiError(415, f"no protobuf decoder for {version[:80]}/{kind[:80]}")
        return {"apiVersion": version, "kind": kind, **_object(raw, name, name, 0)}
    except (ValueError, OverflowError) as e:
        raise bad_request(f"the body of the request is not valid protobuf: {e}"[:300]) from None


def _envelope(content: memoryview) -> tuple[str, str, memoryview]:
    meta: memoryview | None = None
    raw, encoding = memoryview(b""), b""
    for number, _, value in wire.fields(content):
        if number == 1:
            meta = _bytes(value)
        elif number == 2:
            raw = _bytes(value)
        elif number == 3:
            encoding = bytes(_bytes(value))
    if encoding:
        raise ValueError("encoded content is not supported")
    found = {n: _text(v) for n, _, v in wire.fields(meta or memoryview(b""))}
    return found.get(1, ""), found.get(2, ""), raw


def _object(content: memoryview, name: str, kind: str, depth: int) -> Object:
    message = _message(name, kind)
    if message is None or depth > DEPTH_MAX:
        raise ValueError(f"no table for {name}" if message is None else "nested too deeply")
    made: Object = {}
    for number, _, value in wire.fields(content):
        if number in message.inline:
            made |= _object(_bytes(value), message.inline[number], kind, depth + 1)
        elif number in message.fields:
            field, keeps_zero = message.fields[number]
            _put(made, field, value, keeps_zero=keeps_zero, depth=depth)
    return made


def _put(made: Object, field: Field, value: Value, *, keeps_zero: bool, depth: int) -> None:
    if field.container == "list":
        made.setdefault(field.name, []).extend(_items(field.element, value, depth))
    elif field.container == "map":
        key, item = _entry(_bytes(value))
        made.setdefault(field.name, {})[key] = _value(field.element, item, depth)
    else:
        decoded = _value(field.element, value, depth)
        if decoded is None or (decoded in ("", 0, False) and not keeps_zero):
            return
        made[field.name] = decoded


def _items(element: str, value: Value, depth: int) -> list[Any]:
    """Return what one occurrence of a repeated field adds: numbers may be packed."""
    if element in _BITS and isinstance(value, memoryview):
        found, at = [], 0
        while at < len(value):
            number, at = wire.varint(value, at)
            found.append(wire.signed(number, _BITS[element]))
        return found
    return [_value(element, value, depth)]


def _entry(content: memoryview) -> tuple[str, Value | None]:
    key, item = "", None
    for number, _, value in wire.fields(content):
        if number == 1:
            key = _text(value)
        elif number == 2:
            item = value
    return key, item


def _value(element: str, value: Value | None, depth: int) -> Any:  # noqa: C901, PLR0911 one branch for each type
    kind = types.lookup(element) if not element.startswith("[]") else element
    if isinstance(kind, Type):
        return _object(_bytes(value or memoryview(b"")), element, element, depth + 1)
    match kind:
        case "str":
            return _text(value)
        case "bool":
            return bool(_number(value))
        case "int32" | "int64":
            return wire.signed(_number(value), _BITS[kind])
        case "bytes":
            return base64.b64encode(_bytes(value or memoryview(b""))).decode()
        case "time":
            return _time(_bytes(value), micro=element.endswith("MicroTime"))
        case "resource.Quantity":
            return next((_text(v) for n, _, v in wire.fields(_bytes(value)) if n == 1), "0")
        case "intstr.IntOrString":
            found = {n: v for n, _, v in wire.fields(_bytes(value))}
            return (
                _text(found.get(3)) if found.get(1) else wire.signed(_number(found.get(2, 0)), 32)
            )
        case "any":
            raw = next(
                (bytes(_bytes(v)) for n, _, v in wire.fields(_bytes(value)) if n == 1), b"{}"
            )
            return json.loads(raw)
    if element.startswith("[]"):  # a message that only holds a list (ExtraValue)
        return [_value(element[2:], v, depth) for n, _, v in wire.fields(_bytes(value)) if n == 1]
    raise ValueError(f"no decoder for {element}")


def _time(content: memoryview, *, micro: bool) -> str | None:
    found = {n: wire.signed(_number(v)) for n, _, v in wire.fields(content)}
    if not found or found == {1: -62135596800, 2: 0}:  # Go's zero time
        return None
    moment = datetime.fromtimestamp(found.get(1, 0), UTC)
    nanos = found.get(2, 0)
    if not 0 <= nanos < 1_000_000_000:
        raise ValueError("bad time")
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{nanos // 1000:06}Z" if micro else f"{text}Z"


def _bytes(value: Value | None) -> memoryview:
    if not isinstance(value, memoryview):
        raise ValueError("a number where bytes were expected")  # noqa: TRY004 a defect of the body, not of ours
    return value


def _number(value: Value | None) -> int:
    if not isinstance(value, int):
        raise ValueError("bytes where a number was expected")  # noqa: TRY004 a defect of the body, not of ours
    return value


def _text(value: Value | None) -> str:
    return str(_bytes(value), "utf-8") if value is not None else ""
