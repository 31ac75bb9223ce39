"""Validation of the kinds other than pods, in Kubernetes' words (pkg/apis/*/validation/validation.go).

Each function gets an object that is decoded and defaulted and yields what is wrong with it; one for updates gets the wanted and the
current object and yields what may not change: the wanted one is held against its kind's other rules, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from minipod.api import quantity, validation_placement
from minipod.api.fields import FieldError
from minipod.api.messages import (
    LABEL,
    LABEL_WORDS,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)
from minipod.api.metadata import IMMUTABLE, labels, qualified_name

Object = dict[str, Any]
Errors = Iterator[FieldError]

OBJECT_MAX = 1 << 20  # bytes of data in a ConfigMap or Secret
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_KEY_WORDS = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name',"
    " regex used for validation is '[-._a-zA-Z0-9]+')"
)
_IMMUTABLE_DATA = "Forbidden: field is immutable when `immutable` is set"


def choice(item: Object, field: str, choices: tuple[str, ...], path: str) -> Errors:
    """Yield an error unless *field* is absent or one of *choices*."""
    value = item.get(field)
    if value is not None and value not in choices:
        yield unsupported(f"{path}.{field}" if path else field, value, choices)


def immutable(*fields: str) -> Callable[[Object, Object], Errors]:
    """Return an update's rule: these fields stay as they are."""

    def check(wanted: Object, current: Object) -> Errors:
        for name in fields:
            if wanted.get(name) != current.get(name):
                yield invalid(name, wanted.get(name), IMMUTABLE)

    return check


# -- ConfigMap, Secret


def _data(item: Object, fields: tuple[str, ...]) -> Errors:
    size = 0
    seen: set[str] = set()
    for field in fields:
        for key, value in (item.get(field) or {}).items():
            size += len(value)
            if not _KEY.fullmatch(key) or key in (".", "..") or key.startswith(".."):
                yield invalid(f"{field}[{key}]", key, _KEY_WORDS)
            if key in seen:
                yield invalid(f"{field}[{key}]", key, "duplicate of key present in " + fields[-1])
            seen.add(key)
    if size > OBJECT_MAX:
        yield FieldError(
            "", f"Too long: may not be more than {OBJECT_MAX} bytes", "FieldValueTooLong"
        )


def validate_config_map(item: Object) -> Errors:
    yield from _data(item, ("data", "binaryData"))


def _frozen(wanted: Object, current: Object, fields: tuple[str, ...]) -> Errors:
    if not current.get("immutable"):
        return
    if not wanted.get("immutable"):
        yield FieldError("immutable", _IMMUTABLE_DATA, "FieldValueForbidden")
    for field in fields:
        if (wanted.get(field) or {}) != (current.get(field) or {}):
            yield FieldError(field, _IMMUTABLE_DATA, "FieldValueForbidden")


def validate_config_map_update(wanted: Object, current: Object) -> Errors:
    yield from _frozen(wanted, current, ("data", "binaryData"))


_SECRET_KEYS = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def validate_secret(item: Object) -> Errors:
    yield from _data(item, ("data",))
    data, kind = item.get("data") or {}, item.get("type", "")
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in data:
            yield required(f"data[{key}]")
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        yield required("data[username]")
        yield required("data[password]")
    if kind == "kubernetes.io/service-account-token":
        name = "kubernetes.io/service-account.name"
        if not (item["metadata"].get("annotations") or {}).get(name):
            yield required(f"metadata.annotations[{name}]")


def validate_secret_update(wanted: Object, current: Object) -> Errors:
    if wanted.get("type") != current.get("type"):
        yield invalid("type", wanted.get("type"), IMMUTABLE)
    yield from _frozen(wanted, current, ("data",))


# -- LimitRange


def default_limit_range(item: Object) -> None:
    """Fill a Container limit's default from max, and defaultRequest from default or min (SetDefaults_LimitRangeItem)."""
    for limit in (item.get("spec") or {}).get("limits") or []:
        if limit.get("type") != "Container":
            continue
        default = limit.setdefault("default", {})
        request = limit.setdefault("defaultRequest", {})
        for name, value in (limit.get("max") or {}).items():
            default.setdefault(name, value)
        for source in (default, limit.get("min") or {}):
            for name, value in source.items():
                request.setdefault(name, value)
        for name in ("default", "defaultRequest"):
            if not limit[name]:
                del limit[name]


_LIMIT_ORDER = ("min", "defaultRequest", "default", "max")


def validate_limit_range(item: Object) -> Errors:
    seen: set[str] = set()
    for i, limit in enumerate((item.get("spec") or {}).get("limits") or []):
        path, kind = f"spec.limits[{i}]", limit.get("type", "")
        if kind in seen:
            yield duplicate(f"{path}.type", kind)
        seen.add(kind)
        if not kind:
            yield required(f"{path}.type")
        if kind == "Pod":
            for name in ("default", "defaultRequest"):
                if limit.get(name):
                    yield forbidden(f"{path}.{name}", "may not be specified when `type` is 'Pod'")
        yield from _limit_order(limit, path)


def _limit_order(limit: Object, path: str) -> Errors:
    names = {n for key in _LIMIT_ORDER for n in limit.get(key) or {}}
    for name in sorted(names):
        given = [(key, limit[key][name]) for key in _LIMIT_ORDER if name in (limit.get(key) or {})]
        for (low, small), (high, large) in pairwise(given):
            if quantity.parse(small) > quantity.parse(large):
                words = f"{low} value {small} is greater than {high} value {large}"
                yield invalid(f"{path}.{low}[{name}]", small, words)


# -- nodes, leases, classes


def validate_node(item: Object) -> Errors:
    seen: set[tuple[str, str]] = set()
    for i, taint in enumerate((item.get("spec") or {}).get("taints") or []):
        path = f"spec.taints[{i}]"
        key, effect = taint.get("key", ""), taint.get("effect", "")
        if words := qualified_name(key):
            yield invalid(f"{path}.key", key, words)
        if not effect:
            yield required(f"{path}.effect")
        elif effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            yield unsupported(
                f"{path}.effect", effect, ("NoSchedule", "PreferNoSchedule", "NoExecute")
            )
        if (key, effect) in seen:
            words = f'Duplicate value: {{"key":"{key}","effect":"{effect}"}}'
            yield FieldError(path, words, "FieldValueDuplicate")
        seen.add((key, effect))


def validate_lease(item: Object) -> Errors:
    spec = item.get("spec") or {}
    for name, low in (("leaseDurationSeconds", 1), ("leaseTransitions", 0)):
        if spec.get(name) is not None and spec[name] < low:
            words = "must be greater than 0" if low else "must be greater than or equal to 0"
            yield invalid(f"spec.{name}", spec[name], words)


def validate_priority_class(item: Object) -> Errors:
    name, value = item["metadata"].get("name", ""), item.get("value", 0)
    if name.startswith("system-"):
        if name not in ("system-node-critical", "system-cluster-critical"):
            yield forbidden(
                "metadata.name",
                "priority class names with 'system-' prefix are reserved for system use only",
            )
    elif value > 1_000_000_000:
        yield forbidden("value", "maximum allowed value of a user defined priority is 1000000000")
    yield from choice(item, "preemptionPolicy", ("PreemptLowerPriority", "Never"), "")


def validate_priority_class_update(wanted: Object, current: Object) -> Errors:
    for name in ("value", "preemptionPolicy"):
        if wanted.get(name) != current.get(name):
            yield forbidden(name, "may not be changed in an update.")


def validate_runtime_class(item: Object) -> Errors:
    handler = item.get("handler", "")
    if not LABEL.fullmatch(handler):
        yield invalid("handler", handler, LABEL_WORDS)
    for name, value in ((item.get("overhead") or {}).get("podFixed") or {}).items():
        if quantity.parse(str(value)) < 0:
            words = "must be greater than or equal to 0"
            yield invalid(f"overhead.podFixed[{name}]", str(value), words)
    scheduling = item.get("scheduling") or {}
    yield from labels(scheduling.get("nodeSelector") or {}, "scheduling.nodeSelector")
    listed = scheduling.get("tolerations") or []
    yield from validation_placement.tolerations(listed, "scheduling.tolerations")


# -- access


def validate_role(item: Object) -> Errors:
    namespaced = bool(item["metadata"].get("namespace"))
    for i, rule in enumerate(item.get("rules") or []):
        path = f"rules[{i}]"
        if not rule.get("verbs"):
            yield required(f"{path}.verbs", "verbs must contain at least one value")
        urls = rule.get("nonResourceURLs") or []
        if urls and namespaced:
            yield invalid(
                f"{path}.nonResourceURLs",
                urls,
                "namespaced rules cannot apply to non-resource URLs",
            )
        if urls and (rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames")):
            yield invalid(
                f"{path}.nonResourceURLs",
                urls,
                "rules cannot apply to both regular resources and non-resource URLs",
            )
        if urls:
            continue
        if not rule.get("apiGroups"):
            yield required(f"{path}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            yield required(f"{path}.resources", "resource rules must supply at least one resource")


def validate_binding(item: Object) -> Errors:
    namespaced = bool(item["metadata"].get("namespace"))
    ref = item.get("roleRef") or {}
    if ref.get("apiGroup") != "rbac.authorization.k8s.io":
        yield unsupported(
            "roleRef.apiGroup", ref.get("apiGroup", ""), ("rbac.authorization.k8s.io",)
        )
    kinds = ("Role", "ClusterRole") if namespaced else ("ClusterRole",)
    if ref.get("kind") not in kinds:
        yield unsupported("roleRef.kind", ref.get("kind", ""), kinds)
    if not ref.get("name"):
        yield required("roleRef.name")
    for i, subject in enumerate(item.get("subjects") or []):
        path = f"subjects[{i}]"
        if not subject.get("name"):
            yield required(f"{path}.name")
        if subject.get("kind") not in ("User", "Group", "ServiceAccount"):
            yield unsupported(
                f"{path}.kind", subject.get("kind", ""), ("ServiceAccount", "User", "Group")
            )
        if subject.get("kind") == "ServiceAccount" and not subject.get("namespace"):
            yield required(f"{path}.namespace")


def validate_binding_update(wanted: Object, current: Object) -> Errors:
    if wanted.get("roleRef") != current.get("roleRef"):
        yield invalid("roleRef", wanted.get("roleRef"), "cannot change roleRef")
