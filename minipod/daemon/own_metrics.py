"""The text of /metrics: the kubelet's own figures (pkg/kubelet/metrics), and those that every Prometheus client has of its process."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from typing import TYPE_CHECKING

from minipod.kubelet.kubelet import VERSION
from minipod.kubelet.metrics import Family, text

if TYPE_CHECKING:
    from minipod.kubelet.kubelet import Kubelet


def own_metrics(kubelet: Kubelet, containers: Mapping[str, int]) -> str:
    """Return it; *containers* are numbers by state."""
    node = Family("kubelet_node_name", "gauge", "The node's name. The count is always 1.")
    node.add(1, node=kubelet.context.machine.node_name)
    pods = Family("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox")
    pods.add(len(kubelet.pods()))
    running = Family(
        "kubelet_running_containers", "gauge", "Number of containers currently running"
    )
    for state, count in sorted(containers.items()):
        running.add(count, container_state=state)
    evicted = Family(
        "kubelet_evictions", "counter", "Cumulative number of pod evictions by eviction signal"
    )
    for signal, count in sorted(kubelet.evictions.items()):
        evicted.add(count, eviction_signal=signal)
    build = Family("kubernetes_build_info", "gauge", "A metric with a constant '1' value.")
    build.add(1, git_version=VERSION)
    return text((node, pods, running, evicted, build, *_process()))


def _process() -> list[Family]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/stat", "rb") as f:
        fields = f.read().rpartition(b")")[2].split()
    ticks, pages = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    figures = (
        ("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", used.ru_utime + used.ru_stime),
        ("process_open_fds", "gauge", "Number of open file descriptors.", len(os.listdir("/proc/self/fd"))),
        ("process_max_fds", "gauge", "Maximum number of open file descriptors.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", int(fields[20])),
        ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", int(fields[21]) * pages),
        ("process_start_time_seconds", "gauge", "Start time since unix epoch in seconds.", _boot() + int(fields[19]) / ticks),
    )  # fmt: skip
    found = []
    for name, kind, about, value in figures:
        family = Family(name, kind, about)
        family.add(value)
        found.append(family)
    return found


def _boot() -> int:
    with open("/proc/stat", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("btime"))
