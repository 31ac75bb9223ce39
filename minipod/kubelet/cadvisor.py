"""The text of /metrics/cadvisor: names, labels and units are cadvisor's (metrics/prometheus.go), what it measures is a running container,
and the network of a pod, which its containers share.

A family without a sample is left out, as there. Not here: file systems, which would have to be walked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.kubelet.metrics import Family, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from minipod.kubelet.metrics import Labels, Measured

_NS = 1e9
# name, kind, help, key of the details, divisor
_DETAILS = (
    ("container_cpu_user_seconds_total", "counter", "Cumulative user cpu time consumed in seconds.", "user_ns", _NS),
    ("container_cpu_system_seconds_total", "counter", "Cumulative system cpu time consumed in seconds.", "system_ns", _NS),
    ("container_cpu_cfs_periods_total", "counter", "Number of elapsed enforcement period intervals.", "periods", 1),
    ("container_cpu_cfs_throttled_periods_total", "counter", "Number of throttled period intervals.", "throttled", 1),
    ("container_cpu_cfs_throttled_seconds_total", "counter", "Total time duration the container has been throttled.", "throttled_ns", _NS),
    ("container_memory_rss", "gauge", "Size of RSS in bytes.", "rss", 1),
    ("container_memory_cache", "gauge", "Number of bytes of page cache memory.", "cache", 1),
    ("container_memory_mapped_file", "gauge", "Size of memory mapped files in bytes.", "mapped", 1),
    ("container_memory_swap", "gauge", "Container swap usage in bytes.", "swap", 1),
    ("container_oom_events_total", "counter", "Count of out of memory events observed for the container", "oom_kills", 1),
    ("container_processes", "gauge", "Number of processes running inside the container.", "processes", 1),
)  # fmt: skip
# name, help, field of /proc/net/dev
_NETWORK = (
    ("container_network_receive_bytes_total", "Cumulative count of bytes received", 0),
    ("container_network_receive_packets_total", "Cumulative count of packets received", 1),
    ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", 2),
    ("container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", 3),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", 8),
    ("container_network_transmit_packets_total", "Cumulative count of packets transmitted", 9),
    ("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", 10),
    ("container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", 11),
)  # fmt: skip


def cadvisor(measured: Iterable[Measured], *, cpus: int, memory: int) -> str:
    """Return everything: of the containers, their pods' networks, and the machine."""
    listed = list(measured)
    families = [*_of_containers(listed), *_details(listed), *_networks(listed)]
    machine_cpus = Family("machine_cpu_cores", "gauge", "Number of logical CPU cores.")
    machine_cpus.add(cpus)
    machine_memory = Family(
        "machine_memory_bytes", "gauge", "Amount of memory installed on the machine."
    )
    machine_memory.add(memory)
    return text((*families, machine_cpus, machine_memory))


def labels_of(one: Measured) -> Labels:
    """cadvisor's labels of a container."""
    return {
        "container": one.stats.name, "id": f"/{one.status.cgroup}", "image": one.status.image_ref,
        "name": one.status.id, "namespace": one.pod.namespace, "pod": one.pod.name,
    }  # fmt: skip


def _of_containers(measured: list[Measured]) -> Iterator[Family]:
    gauges = {
        name: Family(name, kind, about)
        for name, kind, about in (
            ("container_cpu_usage_seconds_total", "counter", "Cumulative cpu time consumed in seconds."),
            ("container_memory_usage_bytes", "gauge", "Current memory usage in bytes, with all caches"),
            ("container_memory_working_set_bytes", "gauge", "Current working set in bytes."),
            ("container_threads", "gauge", "Number of threads running inside the container"),
            ("container_start_time_seconds", "gauge", "Start time of the container since unix epoch in seconds."),
            ("container_spec_memory_limit_bytes", "gauge", "Memory limit for the container."),
            ("container_spec_cpu_shares", "gauge", "CPU share of the container."),
            ("container_spec_cpu_period", "gauge", "CPU period of the container."),
            ("container_spec_cpu_quota", "gauge", "CPU quota of the container."),
        )
    }  # fmt: skip
    for one in measured:
        labels, resources = labels_of(one), one.status.spec.resources
        values: dict[str, float | None] = {
            "container_memory_usage_bytes": one.stats.memory,
            "container_memory_working_set_bytes": one.stats.working_set,
            "container_threads": one.stats.processes,  # pids.current counts threads
            "container_start_time_seconds": one.status.started_at,
            "container_spec_memory_limit_bytes": resources.memory_limit or 0,
            "container_spec_cpu_shares": resources.cpu_shares,
            "container_spec_cpu_period": resources.cpu_period,
            "container_spec_cpu_quota": resources.cpu_quota if (resources.cpu_quota or 0) > 0 else None,
        }  # fmt: skip
        gauges["container_cpu_usage_seconds_total"].add(
            one.stats.cpu_ns / _NS, cpu="total", **labels
        )
        for name, value in values.items():
            if value is not None:
                gauges[name].add(value, **labels)
    yield from gauges.values()


def _details(measured: list[Measured]) -> Iterator[Family]:
    for name, kind, about, key, divisor in _DETAILS:
        family = Family(name, kind, about)
        for one in measured:
            if key in one.details:
                value = one.details[key]
                family.add(value if divisor == 1 else value / divisor, **labels_of(one))
        yield family
    faults = Family(
        "container_memory_failures_total", "counter", "Cumulative count of memory allocation failures."
    )  # fmt: skip
    for one in measured:
        for key, kind in (("faults", "pgfault"), ("major_faults", "pgmajfault")):
            if key in one.details:
                faults.add(one.details[key], failure_type=kind, scope="hierarchy", **labels_of(one))
    yield faults


def _networks(measured: list[Measured]) -> Iterator[Family]:
    """A pod's network once, by the cgroup of the pod."""
    pods = {one.pod.uid: one for one in measured if one.network}
    for name, about, index in _NETWORK:
        family = Family(name, "counter", about)
        for one in pods.values():
            labels = {
                "id": f"/{one.status.cgroup.rpartition('/')[0]}", "namespace": one.pod.namespace, "pod": one.pod.name,
            }  # fmt: skip
            for interface, counts in one.network.items():
                family.add(counts[index], interface=interface, **labels)
        yield family
