"""Validation of a pod beyond types: names, required fields, references, ranges; all errors at once, in Kubernetes' words
(pkg/apis/core/validation/validation.go)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from minipod.api import quantity
from minipod.api.fields import FieldError, FieldErrors
from minipod.api.schema import check

Object = dict[str, Any]

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character (e.g. 'my-name', or '123-abc')"
)
SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com')"
)
CHOICES = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
    "protocol": ("TCP", "UDP", "SCTP"),
    "mountPropagation": ("None", "HostToContainer", "Bidirectional"),
    "scheme": ("HTTP", "HTTPS"),
}
HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
VOLUME_SOURCES = ("emptyDir", "hostPath")

Errors = Iterator[FieldError]


def validate_pod(obj: Object, *, lenient: bool = False) -> list[str]:
    """Return warnings. Raises FieldErrors with everything that is wrong."""
    findings = check(obj, lenient=lenient)
    if not findings.errors:  # the rest relies on right types
        findings.errors += list(_pod(obj))
    if findings.errors:
        name = (obj.get("metadata") or {}).get("name", "")
        raise FieldErrors(f'Pod "{name}"', findings.errors)
    return findings.warnings


def invalid(path: str, value: object, words: str) -> FieldError:
    shown = f'"{value}"' if isinstance(value, str) else value
    return FieldError(path, f"Invalid value: {shown}: {words}")


def required(path: str, words: str = "") -> FieldError:
    return FieldError(path, f"Required value{': ' + words if words else ''}", "FieldValueRequired")


def _pod(obj: Object) -> Errors:
    metadata = obj.get("metadata") or {}
    if obj.get("apiVersion") != "v1" or obj.get("kind") != "Pod":
        yield invalid("kind", f"{obj.get('apiVersion')}/{obj.get('kind')}", "expected v1/Pod")
    name = metadata.get("name") or metadata.get("generateName")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif len(name) > 253 or not SUBDOMAIN.fullmatch(
        name.rstrip("-") if "name" not in metadata else name
    ):
        yield invalid("metadata.name", name, SUBDOMAIN_WORDS)
    spec = obj.get("spec")
    if not spec:
        yield required("spec")
        return
    yield from _spec(spec)


def _spec(spec: Object) -> Errors:
    containers = spec.get("containers") or []
    inits = spec.get("initContainers") or []
    volumes = spec.get("volumes") or []
    if not containers:
        yield required("spec.containers")
    yield from _choices(spec, "spec")
    yield from _volumes(volumes)
    names: set[str] = set()
    known = {v.get("name") for v in volumes}
    for group, listed in (("initContainers", inits), ("containers", containers)):
        for i, container in enumerate(listed):
            path = f"spec.{group}[{i}]"
            yield from _name(container, path, names)
            yield from _container(container, path, known)
            if group == "initContainers":
                yield from _no_probes(container, path)
    for field, low in (("activeDeadlineSeconds", 1), ("terminationGracePeriodSeconds", 0)):
        value = spec.get(field)
        if value is not None and value < low:
            yield invalid(f"spec.{field}", value, f"must be greater than or equal to {low}")
    for field in ("hostname", "subdomain"):
        value = spec.get(field)
        if value and not LABEL.fullmatch(value):
            yield invalid(f"spec.{field}", value, LABEL_WORDS)
    if spec.get("dnsPolicy") == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        yield required(
            "spec.dnsConfig.nameservers",
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        )


def _name(item: Object, path: str, taken: set[str]) -> Errors:
    name = item.get("name")
    if not name:
        yield required(f"{path}.name")
    elif not LABEL.fullmatch(name):
        yield invalid(f"{path}.name", name, LABEL_WORDS)
    elif name in taken:
        yield FieldError(f"{path}.name", f'Duplicate value: "{name}"', "FieldValueDuplicate")
    taken.add(name or "")


def _choices(item: Object, path: str) -> Errors:
    for field, choices in CHOICES.items():
        value = item.get(field)
        if isinstance(value, str) and value and value not in choices:
            listed = ", ".join(f'"{c}"' for c in sorted(choices))
            yield FieldError(
                f"{path}.{field}",
                f'Unsupported value: "{value}": supported values: {listed}',
                "FieldValueNotSupported",
            )


def _volumes(volumes: list[Object]) -> Errors:
    names: set[str] = set()
    for i, volume in enumerate(volumes):
        path = f"spec.volumes[{i}]"
        yield from _name(volume, path, names)
        sources = [s for s in VOLUME_SOURCES if s in volume]
        if not sources and len(volume) < 2:
            yield required(path, "must specify a volume type")
        if len(sources) > 1:
            yield FieldError(
                path, "Forbidden: may not specify more than 1 volume type", "FieldValueForbidden"
            )
        if "hostPath" in volume:
            where = (volume["hostPath"] or {}).get("path")
            if not where:
                yield required(f"{path}.hostPath.path")
            elif ".." in where.split("/") or not where.startswith("/"):
                yield invalid(
                    f"{path}.hostPath.path", where, "must be an absolute path without '..'"
                )


def _container(container: Object, path: str, volumes: set[Any]) -> Errors:
    if not container.get("image"):
        yield required(f"{path}.image")
    yield from _choices(container, path)
    for i, env in enumerate(container.get("env") or []):
        if not env.get("name"):
            yield required(f"{path}.env[{i}].name")
        elif "=" in env["name"]:
            yield invalid(f"{path}.env[{i}].name", env["name"], "must not contain '='")
        if env.get("value") and env.get("valueFrom"):
            yield invalid(
                f"{path}.env[{i}].valueFrom", "", "may not be specified when `value` is not empty"
            )
    yield from _mounts(container, path, volumes)
    yield from _ports(container, path)
    yield from _resources(container.get("resources") or {}, f"{path}.resources")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(probe) is not None:
            yield from _probe(container[probe], f"{path}.{probe}", probe)
    for hook, action in (container.get("lifecycle") or {}).items():
        yield from _handler(action or {}, f"{path}.lifecycle.{hook}")


def _mounts(container: Object, path: str, volumes: set[Any]) -> Errors:
    taken: set[str] = set()
    privileged = (container.get("securityContext") or {}).get("privileged")
    for i, mount in enumerate(container.get("volumeMounts") or []):
        at = f"{path}.volumeMounts[{i}]"
        if not mount.get("name"):
            yield required(f"{at}.name")
        elif mount["name"] not in volumes:
            yield FieldError(f"{at}.name", f'Not found: "{mount["name"]}"', "FieldValueNotFound")
        where = mount.get("mountPath")
        if not where:
            yield required(f"{at}.mountPath")
        elif where in taken:
            yield invalid(f"{at}.mountPath", where, "must be unique")
        taken.add(where or "")
        sub = mount.get("subPath") or ""
        if sub.startswith("/") or ".." in sub.split("/"):
            yield invalid(f"{at}.subPath", sub, "must be a relative path without '..'")
        yield from _choices(mount, at)
        if mount.get("mountPropagation") == "Bidirectional" and not privileged:
            words = "Forbidden: Bidirectional mount propagation is available only to privileged containers"
            yield FieldError(f"{at}.mountPropagation", words, "FieldValueForbidden")


def _ports(container: Object, path: str) -> Errors:
    for i, port in enumerate(container.get("ports") or []):
        number = port.get("containerPort")
        if number is None:
            yield required(f"{path}.ports[{i}].containerPort")
        elif not 1 <= number <= 65535:
            yield invalid(
                f"{path}.ports[{i}].containerPort", number, "must be between 1 and 65535, inclusive"
            )
        yield from _choices(port, f"{path}.ports[{i}]")


def _resources(resources: Object, path: str) -> Errors:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, listed in (("limits", limits), ("requests", requests)):
        for name, value in listed.items():
            if name not in ("cpu", "memory", "ephemeral-storage") and not name.startswith(
                "hugepages-"
            ):
                yield invalid(
                    f"{path}.{kind}[{name}]",
                    name,
                    "must be a standard resource type or fully qualified",
                )
            elif quantity.parse(str(value)) < 0:
                yield invalid(
                    f"{path}.{kind}[{name}]", str(value), "must be greater than or equal to 0"
                )
    for name in limits.keys() & requests.keys():
        if quantity.parse(str(requests[name])) > quantity.parse(str(limits[name])):
            words = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid(f"{path}.requests", str(requests[name]), words)


def _handler(action: Object, path: str) -> Errors:
    given = [h for h in HANDLERS if action.get(h) is not None]
    if not given:
        yield required(path, "must specify a handler type")
    elif len(given) > 1:
        yield FieldError(
            path, "Forbidden: may not specify more than 1 handler type", "FieldValueForbidden"
        )
    if "exec" in given and not action["exec"].get("command"):
        yield required(f"{path}.exec.command")
    for kind in ("httpGet", "tcpSocket"):
        if kind in given:
            yield from _port(action[kind].get("port"), f"{path}.{kind}.port")
            yield from _choices(action[kind], f"{path}.{kind}")


def _port(port: object, path: str) -> Errors:
    if port is None or port == "":
        yield required(path)
    elif isinstance(port, int) and not 1 <= port <= 65535:
        yield invalid(path, port, "must be between 1 and 65535, inclusive")


def _probe(probe: Object, path: str, kind: str) -> Errors:
    yield from _handler(probe, path)
    for field, low in (
        ("initialDelaySeconds", 0), ("timeoutSeconds", 0), ("periodSeconds", 0), ("successThreshold", 0),
        ("failureThreshold", 0),
    ):  # fmt: skip
        if (probe.get(field) or 0) < low:
            yield invalid(
                f"{path}.{field}", probe[field], f"must be greater than or equal to {low}"
            )
    if kind != "readinessProbe" and (probe.get("successThreshold") or 1) != 1:
        yield invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def _no_probes(container: Object, path: str) -> Errors:
    for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(field) is not None:
            words = "Forbidden: must not be set for init containers without restartPolicy=Always"
            yield FieldError(f"{path}.{field}", words, "FieldValueForbidden")
