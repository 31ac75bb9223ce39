"""Validation of a pod beyond types: names, required fields, references, ranges; all errors at once, in Kubernetes' words
(pkg/apis/core/validation/validation.go)."""

from __future__ import annotations

from typing import Any

from minipod.api import (
    apparmor,
    tuning,
    tuning_probes,
    validation_containers,
    validation_lifecycle,
    validation_names,
    validation_network,
    validation_placement,
    validation_probes,
    validation_security,
    validation_volumes,
)
from minipod.api.fields import FieldErrors, own_faults
from minipod.api.messages import (
    Errors,
    Object,
    at_least,
    in_range,
    invalid,
    label_words,
    required,
    subdomain_words,
    unique_name,
    unsupported,
)
from minipod.api.schema import Findings, check

__all__ = [
    "check_pod",
    "invalid",
    "required",
    "validate_pod",
]

CHOICES = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
    "imagePullPolicy": ("Always", "IfNotPresent", "Never"),
    "terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
}


def validate_pod(obj: Object, *, lenient: bool = False) -> list[str]:
    """Return warnings. Raises FieldErrors with everything that is wrong."""
    findings = check_pod(obj, lenient=lenient)
    if findings.errors:
        name = (findings.rest.get("metadata") or {}).get("name", "")
        raise FieldErrors(f'Pod "{name}"', findings.errors)
    return findings.warnings


def check_pod(obj: Object, *, lenient: bool = False) -> Findings:
    """Return everything that is wrong; what has the right type is checked whatever else has not."""
    findings = check(obj, lenient=lenient)
    findings.errors += own_faults(_pod(findings.rest), findings.mistyped)
    return findings


def _pod(obj: Object) -> Errors:
    metadata = obj.get("metadata") or {}
    if obj.get("apiVersion") != "v1" or obj.get("kind") != "Pod":
        yield invalid("kind", f"{obj.get('apiVersion')}/{obj.get('kind')}", "expected v1/Pod")
    name = metadata.get("name") or metadata.get("generateName")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif words := subdomain_words(name if "name" in metadata else name.rstrip("-")):
        yield invalid("metadata.name", name, words)
    namespace = metadata.get("namespace")
    if namespace and (words := label_words(namespace)):
        yield invalid("metadata.namespace", namespace, words)
    yield from tuning.check(metadata.get("annotations") or {})
    spec = obj.get("spec")
    if not spec:
        yield required("spec")
        return
    yield from _spec(spec)
    listed = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    names = {c.get("name") or "" for c in listed}
    yield from tuning_probes.check(metadata, names)
    yield from apparmor.check(metadata.get("annotations") or {}, names)


def _spec(spec: Object) -> Errors:
    containers = spec.get("containers") or []
    inits = spec.get("initContainers") or []
    volumes = spec.get("volumes") or []
    if not containers:
        yield required("spec.containers")
    yield from _choices(spec, "spec")
    yield from validation_volumes.volumes(volumes)
    names: set[str] = set()
    known = {v.get("name") for v in volumes}
    ephemeral = spec.get("ephemeralContainers") or []
    groups = (
        ("initContainers", inits),
        ("containers", containers),
        ("ephemeralContainers", ephemeral),
    )
    for group, listed in groups:
        for i, container in enumerate(listed):
            path = f"spec.{group}[{i}]"
            yield from unique_name(container, path, names)
            yield from _container(spec, container, path, known)
            if group == "ephemeralContainers":
                yield from validation_lifecycle.ephemeral(spec, container, path)
            else:
                init = group == "initContainers"
                yield from validation_lifecycle.restart_policy(container, path, init=init)
    yield from in_range(spec, "activeDeadlineSeconds", "spec", 1, (1 << 31) - 1)
    yield from at_least(spec, "terminationGracePeriodSeconds", "spec", 0)
    yield from validation_containers.pod_resources(spec)
    yield from validation_security.pod(spec)
    yield from validation_network.pod(spec)
    yield from validation_placement.pod(spec)
    yield from validation_names.pod(spec)


def _choices(item: Object, path: str) -> Errors:
    for field, choices in CHOICES.items():
        value = item.get(field)
        if isinstance(value, str) and value and value not in choices:
            yield unsupported(f"{path}.{field}", value, choices)


def _container(spec: Object, container: Object, path: str, volumes: set[Any]) -> Errors:
    if not container.get("image"):
        yield required(f"{path}.image")
    elif container["image"] != container["image"].strip():
        words = "must not have leading or trailing whitespace"
        yield invalid(f"{path}.image", container["image"], words)
    yield from _choices(container, path)
    yield from validation_containers.env(container, path, volumes)
    yield from validation_volumes.mounts(container, path, volumes)
    host_network = bool(spec.get("hostNetwork"))
    yield from validation_network.ports(container, path, host_network=host_network)
    yield from validation_containers.resources(
        container.get("resources") or {}, f"{path}.resources"
    )
    yield from validation_containers.resize_policy(container, path, spec.get("restartPolicy"))
    host_users = spec.get("hostUsers") is not False
    yield from validation_security.container(container, path, host_users=host_users)
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(probe) is not None:
            yield from validation_probes.probe(container[probe], f"{path}.{probe}", probe)
    grace = spec.get("terminationGracePeriodSeconds")
    yield from validation_lifecycle.hooks(
        container, path, validation_probes.handler, 30 if grace is None else grace
    )
