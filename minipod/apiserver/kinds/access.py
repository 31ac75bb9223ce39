"""RBAC's roles and bindings."""

from __future__ import annotations

from typing import Any

from minipod.api import validation_kinds as rules
from minipod.apiserver.resources import Printer, Resource, Strategy
from minipod.apiserver.table import created

Object = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"


def binding_row(item: Object) -> list[Any]:
    """Return the cells of a binding: whom it binds by kind."""
    ref = item.get("roleRef") or {}
    named: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in item.get("subjects") or []:
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            name = f"{subject.get('namespace', '')}/{name}"
        named.setdefault(subject.get("kind", ""), []).append(name)
    return [
        item["metadata"]["name"], f"{ref.get('kind', '')}/{ref.get('name', '')}", created(item),
        ", ".join(named["User"]), ", ".join(named["Group"]), ", ".join(named["ServiceAccount"]),
    ]  # fmt: skip


def _default_binding(item: Object) -> None:
    ref = item.get("roleRef")
    if ref is not None and not ref.get("apiGroup"):
        ref["apiGroup"] = GROUP
    for subject in item.get("subjects") or []:
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = GROUP


_ROLES = Printer(
    columns=(("Name", 0), ("Created At", 0)),
    row=lambda i: [i["metadata"]["name"], i["metadata"].get("creationTimestamp", "")],
)
_BINDINGS = Printer(
    columns=(
        ("Name", 0), ("Role", 0), ("Age", 0), ("Users", 1), ("Groups", 1), ("ServiceAccounts", 1),
    ),
    row=binding_row,
)  # fmt: skip


def _role(plural: str, kind: str, *, namespaced: bool) -> Resource:
    return Resource(
        plural=plural,
        kind=kind,
        type=f"rbac.v1.{kind}",
        group=GROUP,
        namespaced=namespaced,
        strategy=Strategy(name="path", validate=rules.validate_role),
        printer=_ROLES,
    )


def _binding(plural: str, kind: str, *, namespaced: bool) -> Resource:
    return Resource(
        plural=plural,
        kind=kind,
        type=f"rbac.v1.{kind}",
        group=GROUP,
        namespaced=namespaced,
        strategy=Strategy(
            name="path",
            default=_default_binding,
            validate=rules.validate_binding,
            validate_update=rules.validate_binding_update,
        ),
        printer=_BINDINGS,
    )


RESOURCES = (
    _role("roles", "Role", namespaced=True),
    _role("clusterroles", "ClusterRole", namespaced=False),
    _binding("rolebindings", "RoleBinding", namespaced=True),
    _binding("clusterrolebindings", "ClusterRoleBinding", namespaced=False),
)
