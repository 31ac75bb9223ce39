"""The kinds that the API serves: one entry each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind of object."""

    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    group: str = ""
    version: str = "v1"
    subresources: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


RESOURCES = {
    r.plural: r
    for r in (
        Resource(
            plural="pods",
            kind="Pod",
            short_names=("po",),
            subresources=("status", "log", "exec", "attach", "ephemeralcontainers"),
        ),
        Resource(plural="events", kind="Event", short_names=("ev",)),
        Resource(plural="namespaces", kind="Namespace", namespaced=False, short_names=("ns",)),
        Resource(
            plural="nodes",
            kind="Node",
            namespaced=False,
            short_names=("no",),
            subresources=("status",),
        ),
    )
}

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def discovery() -> list[dict[str, object]]:
    """Return the entries of an APIResourceList."""
    entries: list[dict[str, object]] = []
    for r in RESOURCES.values():
        entries.append(
            {
                "name": r.plural, "singularName": r.kind.lower(), "namespaced": r.namespaced, "kind": r.kind,
                "verbs": VERBS, "shortNames": list(r.short_names), "categories": ["all"] if r.plural == "pods" else [],
            }
        )  # fmt: skip
        entries += [
            {
                "name": f"{r.plural}/{sub}", "singularName": "", "namespaced": r.namespaced, "kind": r.kind,
                "verbs": ["get", "patch", "update"],
            }
            for sub in r.subresources
        ]  # fmt: skip
    return entries
