"""Volumes, their sources and their mounts: what Kubernetes refuses (pkg/apis/core/validation/validation.go, ValidateVolumes and
ValidateVolumeMounts)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from minipod.api import metadata, quantity, validation_storage
from minipod.api.messages import (
    KEY,
    KEY_WORDS,
    Errors,
    Object,
    choice,
    descending_path,
    file_path,
    forbidden,
    invalid,
    mode,
    not_found,
    required,
    unique_name,
    unsupported,
)
from minipod.api.schema import types

HOST_PATH_TYPES = (
    "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice",
)  # fmt: skip
VOLUME_FIELDS = (
    "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
)  # fmt: skip
ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
    "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
AMOUNTS = tuple(
    f"{kind}.{name}" for kind in ("limits", "requests") for name in ("cpu", "memory", "ephemeral-storage")
)  # fmt: skip
DIVISORS = {
    "cpu": ("1m", "1"),
    "memory": ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"),
}
_EXPIRATION_MIN, _EXPIRATION_MAX = 600, 1 << 32  # seconds


def volumes(listed: list[Object]) -> Errors:
    names: set[str] = set()
    known = {*types()["Volume"].fields, *types()["Volume"].later} - {"name"}
    for i, volume in enumerate(listed):
        path = f"spec.volumes[{i}]"
        yield from unique_name(volume, path, names)
        kinds = [s for s in volume if s in known and volume[s] is not None]
        if len(kinds) > 1:
            yield forbidden(f"{path}.{kinds[1]}", "may not specify more than 1 volume type")
        for kind in kinds[:1]:
            check = _SOURCES.get(kind)
            if check is not None:
                yield from check(volume[kind], f"{path}.{kind}")


def _empty_dir(source: Object, path: str) -> Errors:
    limit = source.get("sizeLimit")
    if limit is not None and quantity.parse(str(limit)) < 0:
        yield forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")
    medium = source.get("medium") or ""
    if medium not in ("", "Memory", "HugePages") and not medium.startswith("HugePages-"):
        yield unsupported(f"{path}.medium", medium, ("", "Memory", "HugePages"))


def _host_path(source: Object, path: str) -> Errors:
    where = source.get("path")
    if not where:
        yield required(f"{path}.path")
    elif not where.startswith("/"):
        yield invalid(f"{path}.path", where, "must be an absolute path")
    elif ".." in where.split("/"):
        yield invalid(f"{path}.path", where, "must not contain '..'")
    yield from choice(source, "type", path, HOST_PATH_TYPES)


def _items(source: Object, path: str) -> Errors:
    yield from mode(source, "defaultMode", path)
    for i, item in enumerate(source.get("items") or []):
        at = f"{path}.items[{i}]"
        if not item.get("key"):
            yield required(f"{at}.key")
        yield from file_path(item.get("path"), f"{at}.path")
        yield from mode(item, "mode", at)


def _config_map(source: Object, path: str) -> Errors:
    if not source.get("name"):
        yield required(f"{path}.name")
    yield from _items(source, path)


def _secret(source: Object, path: str) -> Errors:
    if not source.get("secretName"):
        yield required(f"{path}.secretName")
    yield from _items(source, path)


def _downward(source: Object, path: str) -> Errors:
    yield from mode(source, "defaultMode", path)
    for i, item in enumerate(source.get("items") or []):
        at = f"{path}.items[{i}]"
        yield from file_path(item.get("path"), f"{at}.path")
        yield from mode(item, "mode", at)
        field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
        if field is None and resource is None:
            yield required(at, "one of fieldRef and resourceFieldRef is required")
        elif field is not None and resource is not None:
            words = "fieldRef and resourceFieldRef can not be specified simultaneously"
            yield invalid(at, "resource", words)
        elif field is not None:
            yield from field_ref(field, f"{at}.fieldRef", VOLUME_FIELDS)
        else:
            if not resource.get("containerName"):
                yield required(f"{at}.resourceFieldRef.containerName")
            yield from resource_field_ref(resource, f"{at}.resourceFieldRef")


def field_ref(ref: Object, path: str, allowed: tuple[str, ...]) -> Errors:
    """metadata.labels['x'] and metadata.annotations['x'] are always allowed."""
    where = ref.get("fieldPath")
    if not where:
        yield required(f"{path}.fieldPath")
    elif ref.get("apiVersion") not in (None, "", "v1"):
        words = f"error converting fieldPath: unsupported pod version: {ref['apiVersion']}"
        yield invalid(f"{path}.fieldPath", where, words)
    elif where.startswith(("metadata.labels['", "metadata.annotations['")) and where.endswith("']"):
        key = where.partition("['")[2][:-2]
        if words := metadata.qualified_name(key if "labels" in where else key.lower()):
            yield invalid(path, key, words)
    elif where not in (*VOLUME_FIELDS, *ENV_FIELDS):
        words = f"error converting fieldPath: field label not supported: {where}"
        yield invalid(f"{path}.fieldPath", where, words)
    elif where not in allowed:
        yield unsupported(f"{path}.fieldPath", where, allowed)


def resource_field_ref(ref: Object, path: str) -> Errors:
    name = ref.get("resource") or ""
    kind = name.partition(".")[2]
    if not name:
        yield required(f"{path}.resource")
    elif name not in AMOUNTS and not kind.startswith("hugepages-"):
        yield unsupported(f"{path}.resource", name, AMOUNTS)
    divisor = ref.get("divisor")
    allowed = DIVISORS["cpu" if kind == "cpu" else "memory"]
    if divisor is not None and str(divisor) not in (*allowed, "0"):
        listed = " and ".join(allowed) if kind == "cpu" else ", ".join(allowed)
        words = f"only divisor's values {listed} are supported with the {kind or 'cpu'} resource"
        yield invalid(f"{path}.divisor", str(divisor), words)


def _projected(source: Object, path: str) -> Errors:
    yield from mode(source, "defaultMode", path)
    taken: set[str] = set()
    for i, one in enumerate(source.get("sources") or []):
        at = f"{path}.sources[{i}]"
        kinds = [k for k in one if one[k] is not None]
        if len(kinds) > 1:
            yield forbidden(f"{at}.{kinds[1]}", "may not specify more than 1 volume type")
        elif not kinds:
            yield required(at)
        else:
            yield from _projection(kinds[0], one[kinds[0]], f"{at}.{kinds[0]}", taken)


def _projection(kind: str, source: Object, path: str, taken: set[str]) -> Errors:
    if kind in ("secret", "configMap"):
        if not source.get("name"):
            yield required(f"{path}.name")
        yield from _items(source, path)
    elif kind == "downwardAPI":
        yield from _downward(source, path)
    elif kind == "serviceAccountToken":
        seconds = source.get("expirationSeconds")
        if seconds is not None and seconds < _EXPIRATION_MIN:
            words = "may not specify a duration less than 10 minutes"
            yield invalid(f"{path}.expirationSeconds", seconds, words)
        elif seconds is not None and seconds > _EXPIRATION_MAX:
            words = "may not specify a duration larger than 2^32 seconds"
            yield invalid(f"{path}.expirationSeconds", seconds, words)
        yield from file_path(source.get("path"), f"{path}.path")
    for where in (*(i.get("path") for i in source.get("items") or []), source.get("path")):
        if where and where in taken:
            yield invalid(path, where, "conflicting duplicate paths")
        taken.add(where or "")


def _claim(source: Object, path: str) -> Errors:
    if not source.get("claimName"):
        yield required(f"{path}.claimName")


def _ephemeral(source: Object, path: str) -> Errors:
    """The claim that is to be made: only labels and annotations of its own, a spec like any claim's."""
    template, at = source.get("volumeClaimTemplate"), f"{path}.volumeClaimTemplate"
    if template is None:
        yield required(at)
        return
    for field in template.get("metadata") or {}:
        if field not in ("labels", "annotations", "creationTimestamp"):
            yield forbidden(f"{at}.metadata.{field}", "only labels and annotations may be set")
    for error in validation_storage.validate_claim({"spec": template.get("spec") or {}}):
        yield replace(error, path=f"{at}.{error.path}")


def _image(source: Object, path: str) -> Errors:
    if not source.get("reference"):
        yield required(f"{path}.reference")
    yield from choice(source, "pullPolicy", path, ("Always", "IfNotPresent", "Never"))


_SOURCES = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "configMap": _config_map,
    "secret": _secret,
    "downwardAPI": _downward,
    "projected": _projected,
    "persistentVolumeClaim": _claim,
    "ephemeral": _ephemeral,
    "image": _image,
}


def mounts(container: Object, path: str, known: Iterable[Any]) -> Errors:
    taken: set[str] = set()
    privileged = bool((container.get("securityContext") or {}).get("privileged"))
    for i, mount in enumerate(container.get("volumeMounts") or []):
        at = f"{path}.volumeMounts[{i}]"
        if not mount.get("name"):
            yield required(f"{at}.name")
        elif mount["name"] not in known:
            yield not_found(f"{at}.name", mount["name"])
        where = mount.get("mountPath")
        if not where:
            yield required(f"{at}.mountPath")
        elif where in taken:
            yield invalid(f"{at}.mountPath", where, "must be unique")
        taken.add(where or "")
        yield from _mount_options(mount, at, privileged=privileged)


def _mount_options(mount: Object, at: str, *, privileged: bool) -> Errors:
    if mount.get("subPath"):
        yield from descending_path(mount["subPath"], f"{at}.subPath")
    if expression := mount.get("subPathExpr"):
        if mount.get("subPath"):
            words = "subPathExpr and subPath are mutually exclusive"
            yield invalid(f"{at}.subPathExpr", expression, words)
        yield from descending_path(expression, f"{at}.subPathExpr")
    propagation = mount.get("mountPropagation")
    yield from choice(mount, "mountPropagation", at, ("None", "HostToContainer", "Bidirectional"))
    if propagation == "Bidirectional" and not privileged:
        words = "Bidirectional mount propagation is available only to privileged containers"
        yield forbidden(f"{at}.mountPropagation", words)
    recursive = mount.get("recursiveReadOnly")
    yield from choice(mount, "recursiveReadOnly", at, ("Disabled", "Enabled", "IfPossible"))
    if recursive in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            yield forbidden(
                f"{at}.recursiveReadOnly", "may only be specified when readOnly is true"
            )
        if propagation not in (None, "", "None"):
            words = "may only be specified when mountPropagation is None or not specified"
            yield forbidden(f"{at}.recursiveReadOnly", words)


def key(value: str | None, path: str) -> Errors:
    """A key of a ConfigMap or Secret."""
    if not value:
        yield required(path)
    elif not KEY.fullmatch(value):
        yield invalid(path, value, KEY_WORDS)
