"""OpenAPI v2 in protobuf, for clients up to kubectl 1.27: messages of gnostic's openapiv2/OpenAPIv2.proto, the parts that we have."""

from __future__ import annotations

import json
from typing import Any

from minipod.apiserver.wire import field, flag

Object = dict[str, Any]

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
_LOCATIONS = {"query": 3, "path": 4}  # in NonBodyParameter


def encode_document(document: Object) -> bytes:
    """Return a v2 document as an openapi.v2.Document."""
    info = field(1, document["info"]["title"]) + field(2, document["info"]["version"])
    paths = b"".join(field(2, _named(p, _path(i))) for p, i in document["paths"].items())
    schemas = b"".join(field(1, _named(n, _schema(s))) for n, s in document["definitions"].items())
    return field(1, document["swagger"]) + field(2, info) + field(8, paths) + field(9, schemas)


def _named(name: str, value: bytes) -> bytes:
    return field(1, name) + field(2, value)


def _path(item: Object) -> bytes:
    out = b"".join(field(_METHODS[m], _operation(o)) for m, o in item.items() if m in _METHODS)
    return out + b"".join(field(9, _parameter(p)) for p in item["parameters"])


def _operation(operation: Object) -> bytes:
    out = field(5, operation["operationId"])
    out += b"".join(field(7, media) for media in operation.get("consumes", ()))
    out += b"".join(field(8, _parameter(p)) for p in operation.get("parameters", ()))
    codes = (
        field(1, _named(code, field(1, field(1, r["description"]))))
        for code, r in operation["responses"].items()
    )
    return out + field(9, b"".join(codes)) + _extensions(operation, 13)


def _parameter(parameter: Object) -> bytes:
    """Return a ParametersItem: of a body, or of a query or path (whose sub-schemas number their fields alike but for required)."""
    name, where = parameter["name"], parameter["in"]
    if where == "body":
        body = field(2, name) + field(3, "body") + flag(4) + field(5, _schema(parameter["schema"]))
        return field(1, field(1, body))
    required = flag(1) if parameter.get("required") else b""
    type_tag = 6 if where == "query" else 5
    described = required + field(2, where) + field(4, name) + field(type_tag, parameter["type"])
    return field(1, field(2, field(_LOCATIONS[where], described)))


def _schema(schema: Object) -> bytes:
    out = b""
    if "$ref" in schema:
        out += field(1, schema["$ref"])
    if "format" in schema:
        out += field(2, schema["format"])
    if "description" in schema:
        out += field(4, schema["description"])
    out += b"".join(field(19, name) for name in schema.get("required", ()))
    if "additionalProperties" in schema:
        out += field(21, field(1, _schema(schema["additionalProperties"])))
    if "type" in schema:
        out += field(22, field(1, schema["type"]))
    if "items" in schema:
        out += field(23, field(1, _schema(schema["items"])))
    if "properties" in schema:
        named = (field(1, _named(n, _schema(s))) for n, s in schema["properties"].items())
        out += field(25, b"".join(named))
    return out + _extensions(schema, 31)


def _extensions(item: Object, tag: int) -> bytes:
    """x-kubernetes-*, as NamedAny whose value is YAML (JSON is)."""
    return b"".join(
        field(tag, _named(name, field(2, json.dumps(value) + "\n")))
        for name, value in item.items()
        if name.startswith("x-")
    )
