"""Bodies of requests to objects: JSON, YAML, protobuf; every malformed one is a 400 that says what is wrong.

Limits that keep a request from costing more than it may: DEPTH_MAX levels, no YAML aliases (they expand), numbers that fit, one size
limit for all (BODY_MAX, told by the server as 413). Fields given twice are found here and told by fieldValidation's rule.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from minipod.api import decoding
from minipod.api.fields import FieldError, own_faults
from minipod.apiserver.resources import Resource
from minipod.apiserver.status import ApiError, bad_request

Object = dict[str, Any]

BODY_MAX = 3 << 20  # bytes, as kube-apiserver
YAML_MAX = 1 << 20  # it is read at a tenth of the speed of JSON
DEPTH_MAX = 128
JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
MODES = ("Strict", "Warn", "Ignore")


@dataclass(slots=True)
class Parsed:
    """A body that was read, and the fields it gave twice."""

    value: Any
    duplicates: list[str] = field(default_factory=list)


def copied(value: Any) -> Any:
    """Return a copy of a JSON value, all the way down (copy.deepcopy takes five times as long)."""
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    if isinstance(value, list):
        return [copied(v) for v in value]
    return value


def parse(content: bytes, media_type: str) -> Parsed:
    """Return the body's value. Raises ApiError 400, 415."""
    if media_type in (JSON, "", "application/octet-stream"):
        return parse_json(content)
    if media_type == YAML:
        return parse_yaml(content)
    if media_type == PROTOBUF:
        from minipod.apiserver.protobuf import decode  # its tables are read by the first such body

        return Parsed(decode(content))
    accepted = ", ".join((JSON, YAML, PROTOBUF))
    raise ApiError(
        415,
        "the body of the request was in an unknown format - accepted media types include: "
        + accepted,
    )


def parse_json(content: bytes) -> Parsed:
    """Return a JSON body's value. Raises ApiError 400."""
    duplicates: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> Object:
        made = dict(found)
        if len(made) != len(found):
            keys = [k for k, _ in found]
            duplicates.extend(sorted({k for k in keys if keys.count(k) > 1}))
        return made

    try:
        text = content.decode()
        _check_depth(text)
        value = json.loads(
            text, object_pairs_hook=pairs, parse_float=_number, parse_constant=_no_number
        )
        if "\\u" in text:
            value = _without_surrogates(value)
    except (ValueError, RecursionError) as e:
        raise bad_request(f"the body of the request is not valid JSON: {_words(e)}") from None
    return Parsed(value, [f'duplicate field "{name}"' for name in duplicates])


def parse_yaml(content: bytes) -> Parsed:
    """Return a YAML body's value: one document, JSON's types. Raises ApiError 400."""
    if content.lstrip()[:1] in (b"{", b"["):
        return parse_json(content)
    if len(content) > YAML_MAX:
        raise ApiError(413, f"Request entity too large: limit is {YAML_MAX} for YAML")
    import yaml  # the smaller half of the clients ever sends it

    from minipod.apiserver.yaml_loader import load

    try:
        text = content.decode()
        value = load(text, DEPTH_MAX)
    except (ValueError, RecursionError, yaml.YAMLError) as e:
        raise bad_request(f"the body of the request is not valid YAML: {_words(e)}") from None
    return Parsed(value)


def _words(e: Exception) -> str:
    return "nested too deeply" if isinstance(e, RecursionError) else str(e).replace("\n", " ")[:300]


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"number out of range: {text[:40]}")
    return number


def _no_number(text: str) -> float:
    raise ValueError(f"invalid number: {text}")


def _check_depth(text: str) -> None:
    """Raise ValueError for what is nested deeper than any object: every walk below may then recurse."""
    if text.count("{") + text.count("[") <= DEPTH_MAX:
        return
    depth, quoted, skip = 0, False, False
    for c in text:
        if skip:
            skip = False
        elif quoted:
            skip, quoted = c == "\\", c != '"'
        elif c == '"':
            quoted = True
        elif c in "{[":
            depth += 1
            if depth > DEPTH_MAX:
                raise ValueError(f"nested more than {DEPTH_MAX} levels deep")
        elif c in "}]":
            depth -= 1


def _without_surrogates(value: Any) -> Any:
    """Replace halves of surrogate pairs, as Go's decoder does: they have no UTF-8."""
    if isinstance(value, str):
        return (
            value
            if value.isascii()
            else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    if isinstance(value, list):
        return [_without_surrogates(v) for v in value]
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return value


def decode_object(
    parsed: Parsed, resource: Resource, mode: str, *, defaulted: bool = True
) -> tuple[Object, list[str]]:
    """Return an object of the resource's type, clean, and warnings. Raises Undecodable (400) for what is none."""
    obj = parsed.value
    if not isinstance(obj, dict):
        raise bad_request(f"the body of the request must be an object: a {resource.kind}")
    _check_kind(obj, resource, defaulted=defaulted)
    findings = decoding.decode(obj, resource.type)
    obj.setdefault("metadata", {})  # one of the wrong type was removed
    where = (
        f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
    )
    unknown = parsed.duplicates + findings.unknown
    if findings.wrong:
        unknown = unknown if mode == "Strict" else []
        raise Undecodable(where, obj, findings.wrong, findings.mistyped, unknown)
    if mode == "Strict" and unknown:
        raise Undecodable(where, obj, [], [], unknown)
    return obj, unknown if mode == "Warn" else []


class Undecodable(ApiError):
    """A body that is no such object, 400: all of it that is wrong. *rest* is what of it can be read."""

    def __init__(
        self, where: str, rest: Object, wrong: list[str], mistyped: list[str], unknown: list[str]
    ) -> None:
        parts = [*wrong, f"strict decoding error: {', '.join(unknown)}"] if unknown else wrong
        super().__init__(400, f"{where}: {'; '.join(parts)}")
        self.rest = rest
        self.mistyped = mistyped
        self._found = [*wrong, *unknown]

    def with_faults(self, found: Iterable[FieldError]) -> ApiError:
        """Return the same error, which also tells what the rules say of the rest."""
        faults = list(own_faults(found, self.mistyped))
        if not faults or len(self.mistyped) == decoding.FOUND_MAX:
            # what follows from more is not known
            return self
        message = "; ".join([self.message, *map(str, faults)])
        typed = [{"reason": "FieldValueInvalid", "message": m, "field": ""} for m in self._found]
        causes = [*typed, *(f.cause() for f in faults)]
        return ApiError(400, message, details={"causes": causes})


def _check_kind(obj: Object, resource: Resource, *, defaulted: bool) -> None:
    version, kind = obj.get("apiVersion"), obj.get("kind")
    if defaulted:
        version, kind = version or resource.api_version, kind or resource.kind
    if version != resource.api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
        )
    if kind != resource.kind:
        raise bad_request(
            f"the kind in the data ({kind}) does not match the expected kind ({resource.kind})"
        )
    obj["apiVersion"], obj["kind"] = version, kind
    metadata = obj.get("metadata")
    if metadata is None:
        obj["metadata"] = {}
