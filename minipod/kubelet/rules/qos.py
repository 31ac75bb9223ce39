"""Requests and limits to QoS class, cgroups and oom_score_adj.

K8S pkg/kubelet/cm/helpers_linux.go, qos/policy.go, kuberuntime_container_linux.go,
apis/core/v1/helper/qos.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.kubelet.rules.pods import Role
from minipod.kubelet.rules.quantity import milli, whole
from minipod.spec.container import Resources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from minipod.kubelet.rules.pods import Container, Pod, Raw

PERIOD = 100_000  # microseconds
_MIN_QUOTA = 1_000
_MIN_SHARES, _MAX_SHARES = 2, 262_144
_GUARANTEED, _BURSTABLE, _BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort; by the resources of the pod as a whole where it has them."""
    if pod.requests or pod.limits:
        if not [r for part in (pod.requests, pod.limits) for r in _amounts(part)]:
            return _BEST_EFFORT
        return _GUARANTEED if _is_guaranteed(pod) else _BURSTABLE
    every = pod.init_containers + pod.containers
    used = [r for c in every for part in (c.requests, c.limits) for r in _amounts(part)]
    if not used:
        return _BEST_EFFORT
    if all(_is_guaranteed(c) for c in every):
        return _GUARANTEED
    return _BURSTABLE


def cgroup_path(pod: Pod) -> str:
    """The pod's cgroup below the node's: a Guaranteed pod sits at the top."""
    tier = {_GUARANTEED: "", _BURSTABLE: "burstable/", _BEST_EFFORT: "besteffort/"}
    return f"kubepods/{tier[qos_class(pod)]}pod{pod.uid}"


def shares(milli_cpu: int) -> int:
    """cpu.shares of a request."""
    return max(_MIN_SHARES, min(_MAX_SHARES, milli_cpu * 1024 // 1000))


def quota(milli_cpu: int) -> int:
    """cpu.cfs_quota_us of a limit; 0 is no limit."""
    return max(_MIN_QUOTA, milli_cpu * PERIOD // 1000) if milli_cpu else -1


def container_resources(container: Container) -> Resources:
    """The container's own cgroup."""
    cpu, memory = container.limits.get("cpu"), container.limits.get("memory")
    return Resources(
        cpu_shares=shares(milli(container.requests.get("cpu", 0))),
        cpu_quota=quota(milli(cpu)) if cpu is not None else None,
        cpu_period=PERIOD if cpu is not None else None,
        memory_limit=(whole(memory) or None) if memory is not None else None,
        hugepage_limits=_hugepages(container.limits),
        oom_group=True,  # 1.28: the kernel kills the whole container
    )


def pod_resources(pod: Pod) -> Resources:
    """The pod's cgroup: limits only where every container has one (ResourceConfigForPod)."""
    if qos_class(pod) == _BEST_EFFORT:
        return Resources(cpu_shares=_MIN_SHARES)
    cpu = _with_overhead(pod, "cpu", milli, _effective(pod, "cpu", milli, limits=True))
    memory = _with_overhead(pod, "memory", whole, _effective(pod, "memory", whole, limits=True))
    return Resources(
        cpu_shares=shares(requests(pod).get("cpu", 0)),
        cpu_quota=quota(cpu) if cpu else None,
        cpu_period=PERIOD if cpu else None,
        memory_limit=memory or None,
    )


def requests(pod: Pod) -> dict[str, int]:
    """What the pod asks of the node, overhead included: thousandths of a cpu, whole units of all else (PodRequests)."""
    names = {name for c in pod.all_containers for name in c.requests}
    found = {}
    for name in sorted(names | pod.requests.keys() | pod.overhead.keys()):
        unit = milli if name == "cpu" else whole
        found[name] = (_effective(pod, name, unit) or 0) + unit(pod.overhead.get(name, 0))
    return found


def _with_overhead(
    pod: Pod, name: str, unit: Callable[[object], int], limit: int | None
) -> int | None:
    """What is not limited is not by overhead, either (PodLimits)."""
    return limit + unit(pod.overhead.get(name, 0)) if limit else limit


def oom_score_adj(pod: Pod, container: Container, memory_capacity: int) -> int:
    """GetContainerOOMScoreAdjust: the less of its request a container uses, the later it dies."""
    if pod.priority_class_name == "system-node-critical" or qos_class(pod) == _GUARANTEED:
        return -997
    if qos_class(pod) == _BEST_EFFORT:
        return 1000
    request = whole(container.requests.get("memory", 0)) or _share(pod)
    adjust = 1000 - 1000 * request // memory_capacity
    # 2 is what Guaranteed plus one would be; 1000 belongs to BestEffort.
    return max(3, min(adjust, 999))


def _amounts(part: Raw) -> Iterable[int]:
    return [1 for name in ("cpu", "memory") if name in part and milli(part[name]) > 0]


def _share(pod: Pod) -> int:
    """What of the pod's own memory request falls to each container that asks for none (KEP-2837)."""
    asked = [whole(c.requests.get("memory", 0)) for c in pod.containers]
    left = whole(pod.requests.get("memory", 0)) - sum(asked)
    return max(0, left) // max(1, asked.count(0))


def _is_guaranteed(owner: Container | Pod) -> bool:
    limits, requests = owner.limits, owner.requests
    return all(
        name in limits and milli(limits[name]) > 0 and milli(limits[name]) == milli(requests[name])
        for name in ("cpu", "memory")
    )


def _effective(
    pod: Pod, name: str, unit: Callable[[object], int], *, limits: bool = False
) -> int | None:
    """What the pod needs at most at a time: app containers with all sidecars, or an init container
    with the sidecars before it. None if a limit is missing somewhere."""
    own = (pod.limits if limits else pod.requests).get(name)
    if own is not None:
        return unit(own)
    of = [(c, (c.limits if limits else c.requests).get(name)) for c in pod.init_containers]
    of += [(c, (c.limits if limits else c.requests).get(name)) for c in pod.containers]
    if limits and any(value is None for _, value in of):
        return None
    beside = peak = apps = 0
    for container, value in of:
        amount = unit(value or 0)
        if container.is_sidecar:
            beside += amount
        elif container.role is Role.INIT:
            peak = max(peak, beside + amount)
        else:
            apps += amount
    return max(peak, beside + apps)


def _hugepages(limits: Raw) -> dict[str, int]:
    found = {}
    for name, amount in limits.items():
        if name.startswith("hugepages-"):
            found[name.removeprefix("hugepages-").replace("i", "") + "B"] = whole(amount)
    return found
