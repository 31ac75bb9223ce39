"""ConfigMaps, Secrets, ServiceAccounts, Namespaces, LimitRanges."""

from __future__ import annotations

import base64
from typing import Any

from minipod.api import validation_kinds as rules
from minipod.apiserver.resources import ALL_VERBS, STATUS, Resource, Strategy, Subresource
from minipod.apiserver.table import AGE, CREATED, NAME, Column, printer

Object = dict[str, Any]


def _keys(item: Object) -> str:
    return str(len(item.get("data") or {}) + len(item.get("binaryData") or {}))


_DATA = Column("Data", _keys)


CONFIG_MAP = Resource(
    plural="configmaps",
    kind="ConfigMap",
    type="core.v1.ConfigMap",
    short_names=("cm",),
    strategy=Strategy(
        validate=rules.validate_config_map, validate_update=rules.validate_config_map_update
    ),
    printer=printer(NAME, _DATA, AGE),
)


def _default_secret(secret: Object) -> None:
    secret.setdefault("type", "Opaque")
    for key, value in (secret.pop("stringData", None) or {}).items():
        secret.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()


SECRET = Resource(
    plural="secrets",
    kind="Secret",
    type="core.v1.Secret",
    fields=("type",),
    strategy=Strategy(
        default=_default_secret,
        validate=rules.validate_secret,
        validate_update=rules.validate_secret_update,
    ),
    printer=printer(NAME, Column("Type", "type"), _DATA, AGE),
)

SERVICE_ACCOUNT = Resource(
    plural="serviceaccounts",
    kind="ServiceAccount",
    type="core.v1.ServiceAccount",
    short_names=("sa",),
    returns_deleted=True,
    subresources=(
        Subresource(
            name="token",
            verbs=("create",),
            kind="TokenRequest",
            group_version="authentication.k8s.io/v1",
        ),
    ),
    printer=printer(NAME, Column("Secrets", lambda i: str(len(i.get("secrets") or []))), AGE),
)


def _default_namespace(namespace: Object) -> None:
    name = namespace["metadata"].get("name")
    if name:
        namespace["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name


def _prepare_namespace(namespace: Object) -> None:
    finalizers = namespace.setdefault("spec", {}).setdefault("finalizers", [])
    if "kubernetes" not in finalizers:
        finalizers.append("kubernetes")
    namespace["status"] = {"phase": "Active"}


NAMESPACE = Resource(
    plural="namespaces",
    kind="Namespace",
    type="core.v1.Namespace",
    namespaced=False,
    verbs=tuple(v for v in ALL_VERBS if v != "deletecollection"),
    short_names=("ns",),
    returns_deleted=True,
    subresources=(Subresource(name="finalize", verbs=("update",)), STATUS),
    fields=("status.phase",),
    kept=("spec",),  # only `finalize` takes finalizers away
    strategy=Strategy(
        default=_default_namespace,
        prepare=_prepare_namespace,
        name="label",
    ),
    printer=printer(NAME, Column("Status", "status.phase", "Active"), AGE),
)


LIMIT_RANGE = Resource(
    plural="limitranges",
    kind="LimitRange",
    type="core.v1.LimitRange",
    short_names=("limits",),
    strategy=Strategy(default=rules.default_limit_range, validate=rules.validate_limit_range),
    printer=printer(NAME, CREATED),
)

RESOURCES = (CONFIG_MAP, SECRET, SERVICE_ACCOUNT, NAMESPACE, LIMIT_RANGE)
