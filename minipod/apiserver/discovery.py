"""Discovery: which groups, versions and resources there are; plain lists, and aggregated (apidiscovery.k8s.io v2 and v2beta1)."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from minipod.apiserver.negotiation import negotiate
from minipod.apiserver.resources import Registry, Resource, Subresource
from minipod.apiserver.status import not_found
from minipod.apiserver.store_sqlite import encode
from minipod.linux.libc import GOARCH, MACHINE

Object = dict[str, Any]

VERSION = {
    "major": "1", "minor": "32", "gitVersion": "v1.32.0-minipod", "gitCommit": "", "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "python",
    "platform": f"linux/{GOARCH[MACHINE]}",
}  # fmt: skip


class Discovery:
    """Answers GET on /api, /apis and what lies right below."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def answer(self, request: web.Request, parts: tuple[str, ...]) -> web.Response:
        """Answer for the path segments *parts*. Raises ApiError 404."""
        wanted = negotiate(request.headers.get("Accept", ""), ("APIGroupDiscoveryList",))
        media = "application/json"
        match parts:
            case ("api" | "apis",) if wanted.form:
                media += f";g=apidiscovery.k8s.io;v={wanted.version};as=APIGroupDiscoveryList"
                body = self._aggregated(wanted.version, core=parts[0] == "api")
            case ("api",):
                body = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
            case ("apis",):
                groups = [self._group(g) for g in self._registry.groups() if g]
                body = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
            case ("api", version):
                body = self._resources("", version)
            case ("apis", group):
                body = self._group(group) | {"kind": "APIGroup", "apiVersion": "v1"}
            case ("apis", group, version):
                body = self._resources(group, version)
            case _:
                raise not_found()
        headers = {"Content-Type": media, "Vary": "Accept"}
        return web.Response(body=encode(body), headers=headers)

    def paths(self) -> list[str]:
        """Return the path of each group and version."""
        found = ["/api", "/api/v1", "/apis"]
        for group, versions in self._registry.groups().items():
            if group:
                found += [f"/apis/{group}", *(f"/apis/{group}/{v}" for v in versions)]
        return found

    def _group(self, group: str) -> Object:
        versions = self._registry.groups().get(group)
        if not group or versions is None:
            raise not_found()
        listed = [{"groupVersion": f"{group}/{v}", "version": v} for v in versions]
        return {"name": group, "versions": listed, "preferredVersion": listed[0]}

    def _resources(self, group: str, version: str) -> Object:
        found = self._registry.groups().get(group, {}).get(version)
        if found is None:
            raise not_found()
        listed: list[Object] = []
        for r in found:
            listed.append(_plain(r))
            listed += [_plain_sub(r, s) for s in r.subresources]
        name = f"{group}/{version}" if group else version
        return {
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": listed,
        }  # fmt: skip

    def _aggregated(self, form: str, *, core: bool) -> Object:
        groups = self._registry.groups()
        items = [
            {
                "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
                "versions": [
                    {"version": v, "resources": [_aggregate(r) for r in found], "freshness": "Current"}
                    for v, found in versions.items()
                ],
            }
            for group, versions in groups.items()
            if core == (group == "")
        ]  # fmt: skip
        return {
            "kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{form}", "metadata": {},
            "items": items,
        }  # fmt: skip


def singular(r: Resource) -> str:
    return r.singular or r.kind.lower()


def _plain(r: Resource) -> Object:
    found: Object = {
        "name": r.plural, "singularName": singular(r), "namespaced": r.namespaced, "kind": r.kind,
        "verbs": list(r.verbs),
    }  # fmt: skip
    if r.short_names:
        found["shortNames"] = list(r.short_names)
    if r.categories:
        found["categories"] = list(r.categories)
    return found


def _kind(r: Resource, s: Subresource) -> Object:
    group, _, version = (s.group_version or r.api_version).rpartition("/")
    return {"group": group, "version": version, "kind": s.kind or r.kind}


def _plain_sub(r: Resource, s: Subresource) -> Object:
    found = {
        "name": f"{r.plural}/{s.name}", "singularName": "", "namespaced": r.namespaced,
        "kind": s.kind or r.kind, "verbs": list(s.verbs),
    }  # fmt: skip
    if s.group_version:
        found |= {k: v for k, v in _kind(r, s).items() if k != "kind"}
    return found


def _aggregate(r: Resource) -> Object:
    found: Object = {
        "resource": r.plural,
        "responseKind": {"group": r.group, "version": r.version, "kind": r.kind},
        "scope": "Namespaced" if r.namespaced else "Cluster",
        "singularResource": singular(r),
        "verbs": list(r.verbs),
    }
    if r.short_names:
        found["shortNames"] = list(r.short_names)
    if r.categories:
        found["categories"] = list(r.categories)
    if r.subresources:
        found["subresources"] = [
            {"subresource": s.name, "responseKind": _kind(r, s), "verbs": list(s.verbs)}
            for s in r.subresources
        ]
    return found
