"""OpenAPI documents, from the registry, the table of types and the descriptions: v3 per group version, v2 as one.

Trimmed to what clients read: `kubectl explain` the schemas of the kinds, `apply` the merge keys and that PATCH takes fieldValidation and
strategic merge patches. A v3 document has a hash in its address, with which it may be cached for ever (apimachinery's handler3).
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any

from aiohttp import web

from minipod.api import descriptions, types
from minipod.api.types import Field, Type
from minipod.apiserver import patch
from minipod.apiserver.discovery import VERSION
from minipod.apiserver.resources import Registry, Resource
from minipod.apiserver.status import ApiError, not_found
from minipod.apiserver.store_sqlite import encode

Object = dict[str, Any]

V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
FOREVER = {"Cache-Control": "public, immutable", "Expires": "Fri, 31 Dec 2099 23:59:59 GMT"}
SCALARS: dict[str, Object] = {
    "str": {"type": "string"}, "bool": {"type": "boolean"}, "time": {"type": "string", "format": "date-time"},
    "int32": {"type": "integer", "format": "int32"}, "int64": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "double"}, "bytes": {"type": "string", "format": "byte"},
    "any": {"type": "object"}, "resource.Quantity": {"type": "string"},
    "intstr.IntOrString": {"type": "string", "format": "int-or-string"},
}  # fmt: skip
_PREFIXES = {"meta": "io.k8s.apimachinery.pkg.apis.", "runtime": "io.k8s.apimachinery.pkg.",
    "apiextensions": "io.k8s.apiextensions-apiserver.pkg.apis.", "apiregistration": "io.k8s.kube-aggregator.pkg.apis."}  # fmt: skip
_READ = ("get", "list", "watch")


def full_name(name: str) -> str:
    """core.v1.Pod -> io.k8s.api.core.v1.Pod."""
    return _PREFIXES.get(name.partition(".")[0], "io.k8s.api.") + name


class OpenApi:
    """Answers below /openapi."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._documents: dict[str, tuple[bytes, str]] = {}

    def answer(self, request: web.Request, parts: tuple[str, ...]) -> web.Response:
        """Answer for the path segments below /openapi. Raises ApiError 404, 406."""
        match parts:
            case ("v2",):
                return self._v2(request)
            case ("v3",):
                return _cached(request, self._index, "application/json")
            case ("v3", *rest):
                return self._v3(request, "/".join(rest))
        raise not_found()

    # -- v3

    @cached_property
    def _index(self) -> bytes:
        paths = {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._document(path)[1]}"}
            for path in self._paths()
        }
        return encode({"paths": paths})

    def _paths(self) -> list[str]:
        groups = self._registry.groups()
        return [
            f"apis/{g}/{v}" if g else f"api/{v}" for g, versions in groups.items() for v in versions
        ]

    def _v3(self, request: web.Request, path: str) -> web.Response:
        if path not in self._paths():
            raise not_found()
        document, digest = self._document(path)
        asked = request.query.get("hash")
        if asked is not None and asked != digest:
            where = f"/openapi/v3/{path}?hash={digest}"
            return web.Response(status=301, headers={"Location": where})
        return _cached(request, document, "application/json", FOREVER if asked else None)

    def _document(self, path: str) -> tuple[bytes, str]:
        if path not in self._documents:
            group, _, version = path.removeprefix("apis/").removeprefix("api/").rpartition("/")
            found = [r for r in self._registry.groups()[group][version] if r.type]
            schemas = _schemas(found, "#/components/schemas/")
            document = encode(
                {
                    "openapi": "3.0.0",
                    "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
                    "paths": {p: v for r in found for p, v in paths_of(r, v3=True).items()},
                    "components": {"schemas": schemas},
                }
            )
            self._documents[path] = document, hashlib.sha256(document).hexdigest()[:32].upper()
        return self._documents[path]

    # -- v2

    @cached_property
    def document_v2(self) -> Object:
        """The whole as OpenAPI v2."""
        everything = [r for r in self._registry if r.type]
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
            "paths": {p: v for r in everything for p, v in paths_of(r, v3=False).items()},
            "definitions": _schemas(everything, "#/definitions/"),
        }

    @cached_property
    def _v2_protobuf(self) -> bytes:
        from minipod.apiserver.openapi_proto import encode_document  # old clients only

        return encode_document(self.document_v2)

    def _v2(self, request: web.Request) -> web.Response:
        accept = request.headers.get("Accept", "")
        if V2_PROTOBUF in accept.replace("@", "."):
            # clients write an @, which no media type may have
            return _cached(request, self._v2_protobuf, V2_PROTOBUF)
        if accept and not any(a in accept for a in ("application/json", "*/*", "application/*")):
            raise ApiError(
                406, f"only the following media types are accepted: application/json, {V2_PROTOBUF}"
            )
        return _cached(request, encode(self.document_v2), "application/json")


def _cached(
    request: web.Request, body: bytes, media: str, more: dict[str, str] | None = None
) -> web.Response:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32].upper()}"'
    headers = {"Etag": etag, "Vary": "Accept", "Cache-Control": "no-cache, private", **(more or {})}
    if request.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers={**headers, "Content-Type": media})


# -- schemas


def _schemas(resources: list[Resource], prefix: str) -> Object:
    """Return the schemas of all types that the resources reach, by name."""
    found: Object = {}
    waiting = [r.type for r in resources] + ["meta.v1.DeleteOptions", "meta.v1.Status"]
    while waiting:
        name = waiting.pop()
        if full_name(name) in found:
            continue
        kind = types.lookup(name)
        if isinstance(kind, str):
            continue
        found[full_name(name)] = _schema(kind, prefix)
        for field in kind.fields.values():
            element = field.element.removeprefix("[]")
            if element not in types.SCALARS and not isinstance(types.lookup(element), str):
                waiting.append(element)
    for r in resources:
        if "list" in r.verbs:
            found[full_name(f"{r.type}List")] = _list_schema(r, prefix)
    if any("list" in r.verbs for r in resources):
        found[full_name("meta.v1.ListMeta")] = _schema(
            types.object_type("meta.v1.ListMeta"), prefix
        )
    return dict(sorted(found.items()))


def _schema(kind: Type, prefix: str) -> Object:
    made: Object = {
        **_described(descriptions.of_type(kind.name)),
        "type": "object",
        "properties": {
            f.name: {**_described(descriptions.of_field(kind.name, f)), **_field(f, prefix)}
            for f in kind.fields.values()
        },
    }
    if required := [f.name for f in kind.fields.values() if f.required]:
        made["required"] = required
    if kind.atomic:
        made["x-kubernetes-map-type"] = "atomic"
    group, version, name = kind.gvk
    if name:
        made["x-kubernetes-group-version-kind"] = [
            {"group": group, "version": version, "kind": name}
        ]
    return made


def _described(words: str) -> Object:
    return {"description": words} if words else {}


def _list_schema(r: Resource, prefix: str) -> Object:
    return {
        "description": f"A list of {r.plural}.", "type": "object", "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": _reference("meta.v1.ListMeta", prefix),
            "items": {"type": "array", "items": _reference(r.type, prefix)},
        },
        "x-kubernetes-group-version-kind": [{"group": r.group, "version": r.version, "kind": f"{r.kind}List"}],
    }  # fmt: skip


def _reference(name: str, prefix: str) -> Object:
    reference = {"$ref": prefix + full_name(name)}
    return {"allOf": [reference], "default": {}} if prefix.startswith("#/components") else reference


def _element(name: str, prefix: str) -> Object:
    if name.startswith("[]"):
        return {"type": "array", "items": _element(name[2:], prefix)}
    kind = types.lookup(name)
    return dict(SCALARS[kind]) if isinstance(kind, str) else _reference(name, prefix)


def _field(field: Field, prefix: str) -> Object:
    made = _element(field.element, prefix)
    if field.container == "list":
        made = {"type": "array", "items": made}
        made["x-kubernetes-list-type"] = (
            "map" if field.keys else "set" if field.is_set else "atomic"
        )
        if field.keys:
            made["x-kubernetes-list-map-keys"] = list(field.keys)
    elif field.container == "map":
        made = {"type": "object", "additionalProperties": made}
    strategy = [*(["merge"] if field.merge_key is not None else []), *field.strategies]
    if strategy:
        made["x-kubernetes-patch-strategy"] = ",".join(strategy)
    if field.merge_key:
        made["x-kubernetes-patch-merge-key"] = field.merge_key
    if field.atomic:
        made["x-kubernetes-map-type"] = "atomic"
    return made


# -- paths


def base_path(r: Resource) -> str:
    root = f"/apis/{r.group}/{r.version}" if r.group else f"/api/{r.version}"
    return f"{root}/namespaces/{{namespace}}/{r.plural}" if r.namespaced else f"{root}/{r.plural}"


def paths_of(r: Resource, *, v3: bool) -> Object:
    """Return the path items of a resource: its collection and its objects."""
    base = base_path(r)
    found: Object = {}
    collection = {"get": "list", "post": "create", "delete": "deletecollection"}
    single = {"get": "get", "put": "update", "patch": "patch", "delete": "delete"}
    for path, verbs in ((base, collection), (f"{base}/{{name}}", single)):
        operations = {
            method: _operation(r, verb, v3=v3) for method, verb in verbs.items() if verb in r.verbs
        }
        if operations:
            found[path] = {**operations, "parameters": _path_parameters(path, v3=v3)}
    return found


def _path_parameters(path: str, *, v3: bool) -> list[Object]:
    text: Object = {"schema": {"type": "string"}} if v3 else {"type": "string"}
    return [
        {"name": name, "in": "path", "required": True, **text}
        for name in ("namespace", "name")
        if f"{{{name}}}" in path
    ]


def _query(verb: str) -> tuple[str, ...]:
    if verb in _READ:
        return (
            ("labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "watch")
            if verb == "list"
            else ()
        )
    if verb in ("create", "update", "patch"):
        force = ("force",) if verb == "patch" else ()
        return ("dryRun", "fieldManager", "fieldValidation", *force)
    return ("dryRun", "gracePeriodSeconds", "propagationPolicy")


_QUERY_TYPES = {
    "limit": "integer",
    "watch": "boolean",
    "force": "boolean",
    "gracePeriodSeconds": "integer",
}


def _operation(r: Resource, verb: str, *, v3: bool) -> Object:
    def typed(name: str) -> Object:
        kind = {"type": _QUERY_TYPES.get(name, "string")}
        return {"schema": kind} if v3 else kind

    parameters: list[Object] = [{"name": n, "in": "query", **typed(n)} for n in _query(verb)]
    reference = {"$ref": ("#/components/schemas/" if v3 else "#/definitions/") + full_name(r.type)}
    made: Object = {
        "operationId": f"{verb}{r.group.partition('.')[0].title()}{r.version.title()}{r.kind}",
        "responses": {"200": {"description": "OK"}, "201": {"description": "Created"}, "401": {"description": "Unauthorized"}},
        "x-kubernetes-action": {"create": "post", "update": "put"}.get(verb, verb),
        "x-kubernetes-group-version-kind": {"group": r.group, "version": r.version, "kind": r.kind},
    }  # fmt: skip
    media: dict[str, Object] = {}
    if verb in ("create", "update"):
        media = {"application/json": reference}
    elif verb == "patch":
        every = (patch.JSON_PATCH, patch.MERGE_PATCH, patch.STRATEGIC, patch.APPLY)
        media = {m: {"type": "array" if m == patch.JSON_PATCH else "object"} for m in every}
    if media and v3:
        content = {m: {"schema": schema} for m, schema in media.items()}
        made["requestBody"] = {"content": content, "required": True}
    elif media:
        made["consumes"] = list(media)
        body = next(iter(media.values())) if verb != "patch" else {"type": "object"}
        parameters.append({"name": "body", "in": "body", "required": True, "schema": body})
    if parameters:
        made["parameters"] = parameters
    return made
