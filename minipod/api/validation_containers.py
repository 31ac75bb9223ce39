"""Environment and resources of a container: what Kubernetes refuses (validation.go: ValidateEnv, ValidateResourceRequirements)."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

from minipod.api import metadata, quantity
from minipod.api.messages import (
    Errors,
    Object,
    choice,
    duplicate,
    file_path,
    forbidden,
    invalid,
    not_found,
    required,
    unsupported,
)
from minipod.api.validation_volumes import ENV_FIELDS, field_ref, key, resource_field_ref

_STANDARD = ("cpu", "memory", "ephemeral-storage")
_ENV_NAME = re.compile(r"[ -<>-~]+")  # printable ASCII but for "="
_ENV_WORDS = "a valid environment variable name must consist only of printable ASCII characters other than '='"
SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def env(container: Object, path: str, volumes: Container[Any]) -> Errors:
    """Check env and envFrom; *volumes* are the names of the pod's."""
    for i, entry in enumerate(container.get("env") or []):
        at = f"{path}.env[{i}]"
        yield from _env_name(entry.get("name"), f"{at}.name")
        source = entry.get("valueFrom")
        if source is not None:
            yield from _value_from(entry, source, f"{at}.valueFrom", volumes)
    for i, entry in enumerate(container.get("envFrom") or []):
        at = f"{path}.envFrom[{i}]"
        if entry.get("prefix"):
            yield from _env_name(entry["prefix"], f"{at}.prefix")
        given = [k for k in ("configMapRef", "secretRef") if entry.get(k) is not None]
        if not given:
            words = "must specify one of: `configMapRef` or `secretRef`"
            yield invalid(at, "", words)
        elif len(given) > 1:
            words = "may not have more than one field specified at a time"
            yield invalid(at, "", words)
        elif not entry[given[0]].get("name"):
            yield required(f"{at}.{given[0]}.name")


def _env_name(name: str | None, path: str) -> Errors:
    if not name:
        yield required(path)
    elif not _ENV_NAME.fullmatch(name):
        yield invalid(path, name, _ENV_WORDS)


def _value_from(entry: Object, source: Object, path: str, volumes: Container[Any]) -> Errors:
    given = [k for k in SOURCES if source.get(k) is not None]
    if not given:
        listed = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        yield invalid(path, "", f"must specify one of: {listed}")
        return
    if entry.get("value"):
        yield invalid(path, "", "may not be specified when `value` is not empty")
    if len(given) > 1:
        yield invalid(path, "", "may not have more than one field specified at a time")
    kind, at = given[0], f"{path}.{given[0]}"
    ref = source[kind]
    if kind == "fieldRef":
        yield from field_ref(ref, at, ENV_FIELDS)
    elif kind == "resourceFieldRef":
        yield from resource_field_ref(ref, at)
    elif kind == "fileKeyRef":
        yield from _file_key(ref, at, volumes)
    else:
        if not ref.get("name"):
            yield required(f"{at}.name")
        yield from key(ref.get("key"), f"{at}.key")


def _file_key(ref: Object, path: str, volumes: Container[Any]) -> Errors:
    volume = ref.get("volumeName")
    if not volume:
        yield required(f"{path}.volumeName")
    elif volume not in volumes:
        yield not_found(f"{path}.volumeName", volume)
    yield from file_path(ref.get("path"), f"{path}.path")
    yield from _env_name(ref.get("key"), f"{path}.key")


def resources(item: Object, path: str) -> Errors:
    limits, requests = item.get("limits") or {}, item.get("requests") or {}
    for kind, listed in (("limits", limits), ("requests", requests)):
        for name, value in listed.items():
            yield from _amount(name, value, f"{path}.{kind}")
    for name in limits.keys() & requests.keys():
        limit, request = quantity.parse(str(limits[name])), quantity.parse(str(requests[name]))
        if not overcommittable(name) and request != limit:
            words = f"must be equal to {name} limit of {limits[name]}"
            yield invalid(f"{path}.requests", str(requests[name]), words)
        elif request > limit:
            words = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid(f"{path}.requests", str(requests[name]), words)
    for name in sorted(requests.keys() - limits.keys()):
        if not overcommittable(name):
            yield required(f"{path}.limits", "Limit must be set for non overcommitable resources")
    pages = any(n.startswith("hugepages-") for n in (*limits, *requests))
    if pages and not {"cpu", "memory"} & {*limits, *requests}:
        yield forbidden(path, "HugePages require cpu or memory")


_POD_LEVEL = ("cpu", "memory")


def pod_resources(spec: Object) -> Errors:
    """Resources of the pod as a whole: cpu, memory and huge pages, at least what its containers ask for together."""
    item, path = spec.get("resources") or {}, "spec.resources"
    for kind in ("limits", "requests"):
        for name in item.get(kind) or {}:
            if name not in _POD_LEVEL and not name.startswith("hugepages-"):
                yield unsupported(f"{path}.{kind}[{name}]", name, _POD_LEVEL)
    yield from resources(item, path)
    requests = {**(item.get("limits") or {}), **(item.get("requests") or {})}
    for name, value in requests.items():
        total = sum(
            quantity.parse(str((c.get("resources") or {}).get("requests", {}).get(name, 0)))
            for c in spec.get("containers") or []
        )
        if total > quantity.parse(str(value)):
            words = "must be greater than or equal to aggregate container requests"
            yield invalid(f"{path}.requests[{name}]", str(value), words)
    for i, container in enumerate(spec.get("containers") or []):
        limits = (container.get("resources") or {}).get("limits") or {}
        for name in limits.keys() & (item.get("limits") or {}).keys():
            most = str(item["limits"][name])
            if quantity.parse(str(limits[name])) > quantity.parse(most):
                at = f"spec.containers[{i}].resources.limits[{name}]"
                words = f"must be less than or equal to pod limits of {most}"
                yield invalid(at, str(limits[name]), words)


def resize_policy(container: Object, path: str, restarts: str | None) -> Errors:
    """Check what a change of cpu or memory does; *restarts* is the pod's restartPolicy."""
    taken: set[str] = set()
    for i, policy in enumerate(container.get("resizePolicy") or []):
        at, name = f"{path}.resizePolicy[{i}]", policy.get("resourceName")
        if not name:
            yield required(f"{at}.resourceName")
        elif name not in _POD_LEVEL:
            yield unsupported(f"{at}.resourceName", name, _POD_LEVEL)
        elif name in taken:
            yield duplicate(f"{at}.resourceName", name)
        taken.add(name or "")
        if not policy.get("restartPolicy"):
            yield required(f"{at}.restartPolicy")
        yield from choice(policy, "restartPolicy", at, ("NotRequired", "RestartContainer"))
        if restarts == "Never" and policy.get("restartPolicy") == "RestartContainer":
            words = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            yield invalid(f"{at}.restartPolicy", "RestartContainer", words)


def _amount(name: str, value: object, path: str) -> Errors:
    at = f"{path}[{name}]"
    if name not in _STANDARD and not name.startswith("hugepages-") and "/" not in name:
        yield invalid(at, name, "must be a standard resource type or fully qualified")
        return
    if "/" in name and (words := metadata.qualified_name(name)):
        yield invalid(at, name, words)
    elif "/" in name and name.startswith("requests."):
        yield invalid(at, name, "doesn't follow extended resource name standard")
    amount = quantity.parse(str(value))
    if amount < 0:
        yield invalid(at, str(value), "must be greater than or equal to 0")
    elif "/" in name and amount.denominator != 1:
        yield invalid(at, str(value), "must be an integer")


def overcommittable(name: str) -> bool:
    """Huge pages and extended resources are not: what is asked for is what is given."""
    return name in _STANDARD
