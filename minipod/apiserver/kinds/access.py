"""RBAC's roles and bindings."""

from __future__ import annotations

from typing import Any

from minipod.api import validation_kinds as rules
from minipod.apiserver.resources import Printer, Resource, Strategy
from minipod.apiserver.table import AGE, CREATED, NAME, Column, field, printer

Object = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"


def _subjects(kind: str) -> Column:
    """Return the column of those of one kind whom a binding binds."""

    def cell(item: Object) -> str:
        bound = [s for s in item.get("subjects") or [] if s.get("kind") == kind]
        account = kind == "ServiceAccount"
        return ", ".join(
            f"{s.get('namespace', '')}/{s['name']}" if account else s["name"] for s in bound
        )

    return Column(f"{kind}s", cell, wide=True)


def _default_binding(item: Object) -> None:
    ref = item.get("roleRef")
    if ref is not None and not ref.get("apiGroup"):
        ref["apiGroup"] = GROUP
    for subject in item.get("subjects") or []:
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = GROUP


def _role_of(item: Object) -> str:
    return f"{field(item, 'roleRef.kind')}/{field(item, 'roleRef.name')}"


_ROLES = Strategy(name="path", validate=rules.validate_role)
_BINDINGS = Strategy(
    name="path",
    default=_default_binding,
    validate=rules.validate_binding,
    validate_update=rules.validate_binding_update,
)
_BINDING_COLUMNS = printer(
    NAME, Column("Role", _role_of), AGE, *map(_subjects, ("User", "Group", "ServiceAccount"))
)


def _resource(kind: str, strategy: Strategy, columns: Printer) -> Resource:
    return Resource(
        plural=f"{kind.lower()}s", kind=kind, type=f"rbac.v1.{kind}", group=GROUP,
        namespaced=not kind.startswith("Cluster"), strategy=strategy, printer=columns,
    )  # fmt: skip


RESOURCES = (
    _resource("Role", _ROLES, printer(NAME, CREATED)),
    _resource("ClusterRole", _ROLES, printer(NAME, CREATED)),
    _resource("RoleBinding", _BINDINGS, _BINDING_COLUMNS),
    _resource("ClusterRoleBinding", _BINDINGS, _BINDING_COLUMNS),
)
