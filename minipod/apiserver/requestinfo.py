"""What a request is about, from its method and path alone (apiserver/pkg/endpoints/request/requestinfo.go).

Pure. Authorization and dispatch both go by it. `RequestInfo` of a path outside /api and /apis has is_resource False and the
lower-case method as its verb.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}  # fmt: skip
_NAMESPACE_PARTS = ("status", "finalize")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInfo:
    """The verb and what it is applied to; "" where there is none."""

    verb: str
    path: str
    is_resource: bool = False
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    rest: tuple[str, ...] = ()  # path segments after the subresource

    @property
    def target(self) -> str:
        """The resource with its subresource, as RBAC rules and discovery name it: pods/log."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def is_true(text: str | None) -> bool:
    """Go's strconv.ParseBool, as far as clients use it."""
    return text in ("1", "t", "T", "true", "TRUE", "True")


def parse(method: str, parts: Sequence[str], query: Mapping[str, str]) -> RequestInfo:
    """Return the RequestInfo; *parts* are the decoded segments of the path, without empty ones at the end."""
    path = "/" + "/".join(parts)
    outside = RequestInfo(verb=method.lower(), path=path)
    if not parts or parts[0] not in ("api", "apis"):
        return outside
    prefix = 2 if parts[0] == "api" else 3
    if len(parts) <= prefix:  # discovery
        return outside
    group, version = ("", parts[1]) if prefix == 2 else (parts[1], parts[2])
    rest = list(parts[prefix:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in _NAMESPACE_PARTS:
            rest = rest[2:]
    resource, name, subresource, *more = [*rest[:3], "", ""][:3] + rest[3:]
    return RequestInfo(
        verb=_verb(method, name, query), path=path, is_resource=True, group=group, version=version,
        namespace=namespace, resource=resource, subresource=subresource,
        name=name or _selected_name(method, query), rest=tuple(more),
    )  # fmt: skip


def _verb(method: str, name: str, query: Mapping[str, str]) -> str:
    verb = _VERBS.get(method, method.lower())
    if name:
        return verb
    if verb == "get":
        return "watch" if is_true(query.get("watch")) else "list"
    return "deletecollection" if verb == "delete" else verb


def _selected_name(method: str, query: Mapping[str, str]) -> str:
    """A list of one name is about that name, whatever else is selected by: RBAC's resourceNames allow it."""
    if method != "GET":
        return ""
    terms = re.split(r"(?<!\\),", query.get("fieldSelector", ""))
    named = (re.fullmatch(r"metadata\.name==?([-a-z0-9A-Z.:]+)", term) for term in terms)
    return next((match[1] for match in named if match), "")
