"""A small Kubernetes client over the node's unix socket: no TLS, no asyncio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from minipod import errors
from minipod.api import unix_http
from minipod.spec.endpoint import Endpoint

Object = dict[str, Any]

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
# The kinds that most commands are about: no table of all others is read for them.
NAMES = {
    "po": "pods", "pod": "pods", "pods": "pods", "ev": "events", "event": "events", "events": "events",
    "no": "nodes", "node": "nodes", "nodes": "nodes", "ns": "namespaces", "namespace": "namespaces",
    "namespaces": "namespaces",
}  # fmt: skip
CORE = {"pods": True, "events": True, "nodes": False, "namespaces": False}  # namespaced?
# Kinds of Kubernetes that people try first, and that are not there.
LATER = {
    "deployment",
    "deploy",
    "replicaset",
    "statefulset",
    "daemonset",
    "job",
    "cronjob",
    "service",
    "svc",
    "ingress",
}
BY_REASON = {
    "NotFound": errors.NotFound, "AlreadyExists": errors.AlreadyExists, "Conflict": errors.Conflict,
    "Expired": errors.Gone,
}  # fmt: skip


@cache
def _kinds() -> dict[str, tuple[str, str, bool]]:
    """Return (plural, path of the group version, namespaced) of every kind that is stored, by all of its names."""
    from minipod.apiserver import kinds  # only for what NAMES does not have

    found: dict[str, tuple[str, str, bool]] = {}
    for r in kinds.RESOURCES:
        if r.stored and r.to_storage is None:
            base = f"/apis/{r.api_version}" if r.group else f"/api/{r.version}"
            for word in (r.plural, r.kind.lower(), r.singular, *r.short_names):
                found.setdefault(word, (r.plural, base, r.namespaced))
    return found


def plural(kind: str) -> str:
    """Return the resource that a word on the command line means. Raises NotFound."""
    word = kind.lower()
    if word in NAMES:
        return NAMES[word]
    try:
        return _kinds()[word][0]
    except KeyError:
        hint = f"known: {', '.join(sorted({name for name, _, _ in _kinds().values()}))}"
        if word.removesuffix("s") in LATER:
            hint = "minipod has no workloads and services yet: apply a Pod, such as the spec.template describes"
        raise errors.NotFound(
            f'the server doesn\'t have a resource type "{kind}"', hint=hint
        ) from None


def _place(resource: str) -> tuple[str, bool]:
    """Return the path of a resource's group version, and whether it is namespaced."""
    if resource in CORE:
        return "/api/v1", CORE[resource]
    _, base, namespaced = _kinds()[resource]
    return base, namespaced


def unreachable(path: str, e: OSError) -> Exception:
    """Return what to raise when there is no talking to the node whose socket is at *path*, in the directory of its name."""
    if isinstance(e, PermissionError):
        return PermissionError(e.errno, e.strerror, path)
    node = Endpoint(path.split("/")[-2])
    return errors.Unavailable(
        f"node {node.name} is not running", hint=f"start it: {node.command} up"
    )


class Client:
    """Requests to one node. Errors of the server come back as `minipod.errors`."""

    def __init__(self, instance: Endpoint) -> None:
        self.instance = instance

    def path(self, resource: str, namespace: str | None, name: str = "", sub: str = "") -> str:
        """Return the path of a collection or an object."""
        base, namespaced = _place(resource)
        parts = [base]
        if namespace and namespaced:
            parts.append(f"namespaces/{unix_http.quote(namespace)}")
        parts.append(resource)
        if name:
            parts.append(unix_http.quote(name))
        if sub:
            parts.append(sub)
        return "/".join(parts)

    def open(
        self,
        method: str,
        path: str,
        *,
        query: Object | None = None,
        body: Object | None = None,
        accept: str = "application/json",
        content_type: str = "application/json",
    ) -> unix_http.Response:
        """Send a request; return the answer with its body unread. Raises what the server said."""
        target = f"{path}?{unix_http.encode_query(query.items())}" if query else path
        headers = {"Accept": accept, "Content-Type": content_type}
        content = json.dumps(body).encode() if body is not None else b""
        try:
            answer = unix_http.request(
                self.instance.api_socket, method, target, headers=headers, body=content
            )
        except OSError as e:
            raise unreachable(self.instance.api_socket, e) from e
        if answer.status >= 400:
            self._raise(answer.read())
        return answer

    def request(self, method: str, path: str, **options: Any) -> Object:
        """Send a request; return the answer's object."""
        parsed: Object = json.loads(self.open(method, path, **options).read())
        return parsed

    def watch(self, path: str, query: Object, accept: str = "application/json") -> Iterator[Object]:
        """Yield watch events until the server ends."""
        answer = self.open("GET", path, query={**query, "watch": "true"}, accept=accept)
        try:
            while line := answer.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise errors.Gone(event["object"]["message"])
                yield event
        finally:
            answer.close()

    def _raise(self, content: bytes) -> None:
        try:
            status = json.loads(content)
        except ValueError:
            raise errors.Internal(content[:300].decode(errors="replace")) from None
        details = status.get("details") or {}
        causes = details.get("causes") or []
        message = status.get("message", "")
        if len(causes) > 1:
            lines = [
                f"  {c['field']}: {c['message']}" if c["field"] else f"  {c['message']}"
                for c in causes
            ]
            message = message.split(": ")[0] + ":\n" + "\n".join(lines)
        kind = BY_REASON.get(status.get("reason", ""), errors.FailedPrecondition)
        raise kind(message, hint=details.get("hint", ""))
