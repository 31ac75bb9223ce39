"""ConfigMaps, Secrets, ServiceAccounts, Namespaces, LimitRanges."""

from __future__ import annotations

import base64
from typing import Any

from minipod.api import validation_kinds as rules
from minipod.apiserver.resources import ALL_VERBS, STATUS, Printer, Resource, Strategy, Subresource
from minipod.apiserver.table import created

Object = dict[str, Any]


def _keys(item: Object) -> str:
    return str(len(item.get("data") or {}) + len(item.get("binaryData") or {}))


CONFIG_MAP = Resource(
    plural="configmaps",
    kind="ConfigMap",
    type="core.v1.ConfigMap",
    short_names=("cm",),
    strategy=Strategy(
        validate=rules.validate_config_map, validate_update=rules.validate_config_map_update
    ),
    printer=Printer(
        columns=(("Name", 0), ("Data", 0), ("Age", 0)),
        row=lambda i: [i["metadata"]["name"], _keys(i), created(i)],
    ),
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
    printer=Printer(
        columns=(("Name", 0), ("Type", 0), ("Data", 0), ("Age", 0)),
        row=lambda i: [i["metadata"]["name"], i.get("type", ""), _keys(i), created(i)],
    ),
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
    printer=Printer(
        columns=(("Name", 0), ("Secrets", 0), ("Age", 0)),
        row=lambda i: [i["metadata"]["name"], str(len(i.get("secrets") or [])), created(i)],
    ),
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
    strategy=Strategy(
        default=_default_namespace,
        prepare=_prepare_namespace,
        name="label",
    ),
    printer=Printer(
        columns=(("Name", 0), ("Status", 0), ("Age", 0)),
        row=lambda i: [
            i["metadata"]["name"], (i.get("status") or {}).get("phase", "Active"), created(i),
        ],
    ),
)  # fmt: skip


LIMIT_RANGE = Resource(
    plural="limitranges",
    kind="LimitRange",
    type="core.v1.LimitRange",
    short_names=("limits",),
    strategy=Strategy(default=rules.default_limit_range, validate=rules.validate_limit_range),
    printer=Printer(
        columns=(("Name", 0), ("Created At", 0)),
        row=lambda i: [i["metadata"]["name"], i["metadata"].get("creationTimestamp", "")],
    ),
)

RESOURCES = (CONFIG_MAP, SECRET, SERVICE_ACCOUNT, NAMESPACE, LIMIT_RANGE)
