"""Who must go when the node runs short, and who takes more disk than it may (K8S pkg/kubelet/eviction/helpers.go). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minipod.kubelet.rules import qos
from minipod.kubelet.rules.quantity import whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from minipod.kubelet.rules.pods import Pod

CRITICAL = 2_000_000_000  # scheduling.SystemCriticalPriority
MEMORY, DISK = "memory", "ephemeral-storage"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodUsage:
    """What one pod uses, in bytes."""

    pod: Pod
    memory: int = 0  # working set
    containers: Mapping[str, int] = field(default_factory=dict)  # disk: writable layer and logs
    volumes: Mapping[str, int] = field(default_factory=dict)  # disk: emptyDirs

    def of(self, resource: str) -> int:
        """Its use of memory, or of ephemeral storage."""
        if resource == MEMORY:
            return self.memory
        return sum(self.containers.values()) + sum(self.volumes.values())


def ranked(pods: Iterable[PodUsage], resource: str) -> list[PodUsage]:
    """Who goes first: above its request, of low priority, furthest above its request. Critical pods stay."""

    def key(usage: PodUsage) -> tuple[bool, int, int]:
        above = usage.of(resource) - qos.requests(usage.pod).get(resource, 0)
        return (above <= 0, usage.pod.priority, -above)

    return sorted((u for u in pods if u.pod.priority < CRITICAL), key=key)


def pressure_message(usage: PodUsage, resource: str, threshold: int, available: int) -> str:
    """The words of an eviction under pressure."""
    text = (
        f"The node was low on resource: {resource}. Threshold quantity: {threshold},"
        f" available: {available // 1024}Ki. "
    )
    for container in usage.pod.containers:
        request = whole(container.requests.get(resource, 0))
        used = usage.memory if resource == MEMORY else usage.containers.get(container.name, 0)
        if used > request:
            text += (
                f"Container {container.name} was using {used // 1024}Ki, request is {request},"
                f" has larger consumption of {resource}. "
            )
    return text


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
