"""Who must go when the node runs short, and who takes more disk than it may (K8S pkg/kubelet/eviction/helpers.go). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minipod.kubelet.rules import qos
from minipod.kubelet.rules.quantity import binary, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from minipod.kubelet.rules.pods import Pod

IMMEDIATE = 1.0  # seconds of grace: under a hard threshold nobody gets more
MEMORY, DISK, INODES = "memory", "ephemeral-storage", "inodes"
DISK_RESOURCES = frozenset((DISK, INODES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """Why a pod must go before its time, and how; its object stays, Failed."""

    message: str
    reason: str = "Evicted"
    disruption: str = ""  # the message of its DisruptionTarget condition; "": it is the pod's fault
    grace: float | None = IMMEDIATE  # seconds; None: the pod's own
    resource: str = ""  # what the node was short of


@dataclass(frozen=True, slots=True, kw_only=True)
class PodUsage:
    """What one pod uses, in bytes."""

    pod: Pod
    memory: Mapping[str, int] = field(default_factory=dict)  # working sets by container
    containers: Mapping[str, int] = field(default_factory=dict)  # disk: writable layer and logs
    volumes: Mapping[str, int] = field(default_factory=dict)  # disk: emptyDirs
    inodes: int = 0

    def of(self, resource: str) -> int:
        """Its use of memory, ephemeral storage or inodes."""
        if resource == MEMORY:
            return sum(self.memory.values())
        if resource == INODES:
            return self.inodes
        return sum(self.containers.values()) + sum(self.volumes.values())

    def in_use(self, container: str, resource: str) -> int:
        """What one of its containers uses."""
        return (self.memory if resource == MEMORY else self.containers).get(container, 0)


def ranked(pods: Iterable[PodUsage], resource: str) -> list[PodUsage]:
    """Who goes first: above its request, of low priority, furthest above its request. Critical pods stay."""

    def key(usage: PodUsage) -> tuple[bool, int, int]:
        above = usage.of(resource) - qos.requests(usage.pod).get(resource, 0)
        return (above <= 0, usage.pod.priority, -above)

    return sorted((u for u in pods if not u.pod.is_critical), key=key)


def pressure_message(usage: PodUsage, resource: str, threshold: int, available: int) -> str:
    """The words of an eviction under pressure (evictionMessage)."""
    text = (
        f"The node was low on resource: {resource}. Threshold quantity: {_shown(threshold, resource)},"
        f" available: {_shown(available, resource)}. "
    )
    if resource == INODES:
        return text
    for container in usage.pod.all_containers:
        request = whole(container.requests.get(resource, 0))
        used = usage.in_use(container.name, resource)
        if used > request:
            text += (
                f"Container {container.name} was using {_shown(used, resource)}, request is"
                f" {binary(request)}, has larger consumption of {resource}. "
            )
    return text


def _shown(amount: int, resource: str) -> str:
    return str(amount) if resource == INODES else binary(amount // 1024 * 1024)


def has_disk_limits(pod: Pod) -> bool:
    """Whether anything of the pod's disk use is limited: only then it is measured."""
    if any(DISK in c.limits for c in pod.all_containers):
        return True
    return any((_disk_empty_dir(volume) or {}).get("sizeLimit") for volume in pod.volumes)


def over_limit(usage: PodUsage) -> str:
    """The words of an eviction for too much disk; "" when the pod keeps to its limits (localStorageEviction)."""
    pod = usage.pod
    for volume in pod.volumes:
        source = _disk_empty_dir(volume) or {}
        limit = source.get("sizeLimit")
        if limit and usage.volumes.get(volume["name"], 0) > whole(limit):
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
    limits = [c.limits.get(DISK) for c in pod.containers]
    if limits and all(limits):
        total = sum(whole(limit) for limit in limits)
        if usage.of(DISK) > total:
            words = "Pod ephemeral local storage usage exceeds the total limit of containers"
            return f"{words} {total}. "
    for container in pod.all_containers:
        limit = container.limits.get(DISK)
        if limit and usage.containers.get(container.name, 0) > whole(limit):
            return (
                f'Container {container.name} exceeded its local ephemeral storage limit "{limit}". '
            )
    return ""


def _disk_empty_dir(volume: Mapping[str, object]) -> Mapping[str, str] | None:
    source = volume.get("emptyDir")
    return source if isinstance(source, dict) and not source.get("medium") else None
