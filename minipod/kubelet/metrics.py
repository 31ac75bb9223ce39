"""What the kubelet measures, in the formats that collectors know: /metrics/resource, /stats/summary; `cadvisor` has its own.

Read from the cgroups of running containers when somebody asks; nothing is measured in between, and nothing is walked that has no
process (K8S pkg/kubelet/server/{stats,metrics}, cadvisor's names). The text is Prometheus' exposition format 0.0.4: a few lines of
join, which needs no library.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minipod.kubelet.rules.render import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.pods import Pod
    from minipod.runtime.service import ContainerStats, ContainerStatus

Labels = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One running container: whose it is, what it uses."""

    pod: Pod
    status: ContainerStatus
    stats: ContainerStats
    details: Mapping[str, int] = field(default_factory=dict)  # of its cgroup
    network: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of its pod, by interface


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What the node uses as a whole."""

    cpu_ns: int
    working_set: int  # bytes
    memory: int = 0  # bytes of it all
    disk: tuple[int, int, int] = (0, 0, 0)  # capacity, available bytes; inodes
    inodes_free: int = 0


class Family:
    """One metric and its samples, as text."""

    def __init__(self, name: str, kind: str, about: str) -> None:
        self.lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
        self._name = name

    def add(self, value: float, **labels: str) -> None:
        shown = ",".join(f'{k}="{escape(v)}"' for k, v in labels.items())
        number = repr(value)  # every digit: a start time in seconds has ten before its point
        self.lines.append(
            f"{self._name}{{{shown}}} {number}" if shown else f"{self._name} {number}"
        )


def escape(text: str) -> str:
    """A label's value in the exposition format."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def text(families: Iterable[Family]) -> str:
    """Join families that have samples to one answer."""
    return "".join("\n".join(f.lines) + "\n" for f in families if f.lines[2:])


async def measure(context: Context, pods: Iterable[Pod]) -> list[Measured]:
    """Ask the runtime what runs and what it uses."""
    by_uid = {pod.uid: pod for pod in pods}
    statuses = {c.id: c for c in await context.runtime.list_containers()}
    found = []
    for stats in await context.runtime.list_container_stats():
        pod, status = by_uid.get(stats.pod_uid), statuses.get(stats.id)
        if pod is not None and status is not None:
            found.append(Measured(pod=pod, status=status, stats=stats))
    return found


def resource(measured: list[Measured], node: Node) -> str:
    """What autoscalers and metrics-server ask for (KEP-727)."""
    cpu = Family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
    )
    memory = Family(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
    )
    started = Family(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
    )
    pod_cpu = Family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
    )
    pod_memory = Family(
        "pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes"
    )
    node_cpu = Family(
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
    )
    node_memory = Family(
        "node_memory_working_set_bytes", "gauge", "Current working set of the node in bytes"
    )
    failed = Family(
        "resource_scrape_error",
        "gauge",
        "1 if there was an error while getting container metrics, 0 otherwise",
    )
    for one in measured:
        labels = {"container": one.stats.name, "namespace": one.pod.namespace, "pod": one.pod.name}
        cpu.add(one.stats.cpu_ns / 1e9, **labels)
        memory.add(one.stats.working_set, **labels)
        started.add(one.status.started_at, **labels)
    for pod, members in _by_pod(measured):
        labels = {"namespace": pod.namespace, "pod": pod.name}
        pod_cpu.add(sum(m.stats.cpu_ns for m in members) / 1e9, **labels)
        pod_memory.add(sum(m.stats.working_set for m in members), **labels)
    node_cpu.add(node.cpu_ns / 1e9)
    node_memory.add(node.working_set)
    failed.add(0)
    return text((cpu, memory, started, pod_cpu, pod_memory, node_cpu, node_memory, failed))


def summary(node_name: str, measured: list[Measured], node: Node) -> dict[str, Any]:
    """stats/v1alpha1 Summary."""
    now = timestamp(time.time())

    def used(cpu_ns: int, working_set: int, usage: int | None = None) -> dict[str, Any]:
        memory = {"time": now, "workingSetBytes": working_set}
        return {
            "cpu": {"time": now, "usageCoreNanoSeconds": cpu_ns},
            "memory": memory if usage is None else {**memory, "usageBytes": usage},
        }

    pods = []
    for pod, members in _by_pod(measured):
        containers = [
            {
                "name": m.stats.name,
                "startTime": timestamp(m.status.started_at),
                **used(m.stats.cpu_ns, m.stats.working_set, m.stats.memory),
            }
            for m in members
        ]
        total = used(
            sum(m.stats.cpu_ns for m in members), sum(m.stats.working_set for m in members)
        )
        network = next((m.network for m in members if m.network), {})
        pods.append({
            **_network(network, now),
            "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "startTime": pod.status.get("startTime"), "containers": containers, **total,
            "process_stats": {"process_count": sum(m.stats.processes for m in members)},
        })  # fmt: skip
    whole = used(node.cpu_ns, node.working_set)
    whole["memory"]["availableBytes"] = node.memory - node.working_set
    capacity, available, inodes = node.disk
    whole["fs"] = {
        "time": now, "capacityBytes": capacity, "availableBytes": available, "usedBytes": capacity - available,
        "inodes": inodes, "inodesFree": node.inodes_free, "inodesUsed": inodes - node.inodes_free,
    }  # fmt: skip
    return {"node": {"nodeName": node_name, **whole}, "pods": pods}


def _network(interfaces: Mapping[str, tuple[int, ...]], now: str | None) -> dict[str, Any]:
    """NetworkStats: the pod's own interface, and all of them."""
    names = ("rxBytes", "rxErrors", "txBytes", "txErrors")
    listed = [
        {"name": name, **dict(zip(names, (c[0], c[2], c[8], c[10]), strict=True))}
        for name, c in interfaces.items()
    ]
    first = next((one for one in listed if one["name"] == "eth0"), None)
    return {"network": {"time": now, **first, "interfaces": listed}} if first else {}


def _by_pod(measured: list[Measured]) -> list[tuple[Pod, list[Measured]]]:
    found: dict[str, list[Measured]] = {}
    for one in measured:
        found.setdefault(one.pod.uid, []).append(one)
    return [(members[0].pod, members) for members in found.values()]
