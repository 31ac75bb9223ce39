"""Cpu and memory that a pod's containers were granted, and what they run with (KEP-1287, KEP-5419). Pure.

spec.resources  --admission-->  granted (status: allocatedResources)  --resize-->  actual (status: resources)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from minipod.kubelet.rules import qos
from minipod.kubelet.rules.observed import State
from minipod.kubelet.rules.quantity import milli

if TYPE_CHECKING:
    from minipod.kubelet.rules.observed import Observed
    from minipod.kubelet.rules.pods import Container, Pod, Raw
    from minipod.spec.container import Resources

RESIZABLE = ("cpu", "memory")
_FIELDS = {"cpu": ("cpu_shares", "cpu_quota"), "memory": ("memory_limit",)}
Amounts = tuple[Mapping[str, Any], Mapping[str, Any]]  # requests, limits


def of_pod(pod: Pod) -> dict[str, Amounts]:
    """What the spec asks for, by container."""
    return {c.name: (_part(c.requests), _part(c.limits)) for c in _resizable(pod)}


def stored(pod: Pod) -> dict[str, Amounts]:
    """What the status says was granted; nothing of a container that has not run."""
    found: dict[str, Amounts] = {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for status in pod.status.get(kind) or ():
            if (granted := status.get("allocatedResources")) is not None:
                limits = (status.get("resources") or {}).get("limits") or {}
                found[status["name"]] = (_part(granted), _part(limits))
    return found


def differ(one: Mapping[str, Amounts], other: Mapping[str, Amounts]) -> bool:
    """Whether two are not the same, whatever their spelling."""
    return {n: _values(a) for n, a in one.items()} != {n: _values(a) for n, a in other.items()}


def replaced(pod: Pod, granted: Mapping[str, Amounts]) -> Pod:
    """The pod with these amounts in the place of the spec's."""

    def of(container: Container) -> Container:
        if container.name not in granted:
            return container
        requests, limits = granted[container.name]
        return replace(
            container,
            requests={**_other(container.requests), **requests},
            limits={**_other(container.limits), **limits},
        )

    return replace(
        pod,
        containers=tuple(map(of, pod.containers)),
        init_containers=tuple(map(of, pod.init_containers)),
    )


def changes(running: Resources, container: Container) -> list[str]:
    """Which of cpu and memory a container runs with otherwise than it was granted."""
    wanted = qos.container_resources(container)
    return [
        name
        for name, fields in _FIELDS.items()
        if any(_value(running, f) != _value(wanted, f) for f in fields)
    ]


def resizing(pod: Pod, observed: Observed) -> bool:
    """Whether a container of the pod still runs with other amounts than it was granted."""
    return any(
        instance is not None
        and instance.state is State.RUNNING
        and instance.resources is not None
        and changes(instance.resources, container)
        for container in _resizable(pod)
        for instance in (observed.newest(container.name),)
    )


def actual(container: Container, running: Resources | None) -> dict[str, Raw]:
    """status.resources: what was granted, but for what the cgroup says otherwise."""
    requests, limits = dict(container.requests), dict(container.limits)
    differing = [] if running is None else changes(running, container)
    if running is not None and "cpu" in differing:
        if running.cpu_shares is not None:
            requests["cpu"] = f"{-(-running.cpu_shares * 1000 // 1024)}m"
        _set(limits, "cpu", running.cpu_quota, lambda quota: f"{quota * 1000 // qos.PERIOD}m")
    if running is not None and "memory" in differing:
        _set(limits, "memory", running.memory_limit, str)
    return {k: v for k, v in (("limits", limits), ("requests", requests)) if v}


def _set(limits: dict[str, Any], name: str, value: int | None, show: Any) -> None:
    if value is None or value < 0:
        limits.pop(name, None)
    else:
        limits[name] = show(value)


def _resizable(pod: Pod) -> tuple[Container, ...]:
    return pod.init_containers + pod.containers


def _part(given: Raw) -> dict[str, Any]:
    return {name: given[name] for name in RESIZABLE if name in given}


def _other(given: Raw) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in RESIZABLE}


def _values(given: Amounts) -> tuple[dict[str, int], ...]:
    return tuple({name: milli(value) for name, value in part.items()} for part in given)


def _value(resources: Resources, field: str) -> int:
    """No quota and an unlimited one are the same."""
    value = getattr(resources, field)
    return -1 if value is None else int(value)
