"""Metrics of a node under the paths and names that collectors know."""

from __future__ import annotations

import json
import os
import re
import time

import pytest

from minipod.errors import NotFound
from tests.node import eventually, shell

SAMPLE = re.compile(r"([a-z_]+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def scrape(node, path: str) -> dict[tuple[str, str], float]:
    """Parse an answer in the exposition format: (metric, pod) -> value."""
    found = {}
    for line in node.client.open("GET", path, accept="text/plain").read().decode().splitlines():
        if not line.startswith("#"):
            name, labels, value = SAMPLE.fullmatch(line).groups()
            found[name, dict(LABEL.findall(labels or "")).get("pod", "")] = float(value)
    return found


def test_a_clusters_clients_find_the_metrics_behind_the_node(node) -> None:
    """`kubectl get --raw /api/v1/nodes/NAME/proxy/PATH`."""
    name = node.client.request("GET", "/api/v1/nodes")["items"][0]["metadata"]["name"]
    behind = f"/api/v1/nodes/{name}/proxy"
    for path in ("/metrics", "/metrics/cadvisor", "/metrics/probes", "/metrics/resource"):
        assert set(scrape(node, behind + path)) >= {key for key in scrape(node, path) if not key[1]}
    summary = json.loads(node.client.open("GET", f"{behind}/stats/summary").read())
    assert summary["node"]["nodeName"] == name
    for path in (f"{behind}/minipod/status", behind, "/api/v1/nodes/other/proxy/metrics"):
        with pytest.raises(NotFound):
            node.client.request("GET", path)


def test_what_a_container_uses_is_measured_in_every_format(node, pods) -> None:
    pods.append("busy")
    limits = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    work = "dd if=/dev/zero of=/dev/null bs=1M count=2000; exec sleep 1000"
    node.pod("busy", shell(work, resources=limits))
    # Until it has had something to do, and is alone.
    eventually(lambda: node.exec("busy", "pidof", "sleep", check=False))
    for path in ("/metrics/cadvisor", "/metrics/resource"):
        found = scrape(node, path)
        assert found["container_cpu_usage_seconds_total", "busy"] > 0
        assert 0 < found["container_memory_working_set_bytes", "busy"] < 64 << 20
    found = scrape(node, "/metrics/cadvisor")
    assert found["container_spec_memory_limit_bytes", "busy"] == 64 << 20
    assert found["container_spec_cpu_quota", "busy"] == 50_000
    assert (
        found["container_cpu_user_seconds_total", "busy"]
        + found["container_cpu_system_seconds_total", "busy"]
        > 0
    )
    assert found["container_cpu_cfs_periods_total", "busy"] > 0
    assert found["container_memory_rss", "busy"] > 0
    assert found["container_processes", "busy"] == 1
    assert found["container_network_transmit_packets_total", "busy"] >= 0
    assert found["machine_cpu_cores", ""] == os.cpu_count()
    started = found["container_start_time_seconds", "busy"]
    assert abs(started - time.time()) < 120  # every digit of it
    found = scrape(node, "/metrics/resource")
    assert found["pod_memory_working_set_bytes", "busy"] > 0
    assert found["node_cpu_usage_seconds_total", ""] > 0
    assert found["resource_scrape_error", ""] == 0
    summary = json.loads(node.client.open("GET", "/stats/summary").read())
    (pod,) = [p for p in summary["pods"] if p["podRef"]["name"] == "busy"]
    assert pod["containers"][0]["name"] == "app"
    assert pod["containers"][0]["memory"]["workingSetBytes"] > 0
    assert pod["cpu"]["usageCoreNanoSeconds"] > 0
    assert pod["network"]["name"] == "eth0"
    assert {i["name"] for i in pod["network"]["interfaces"]} >= {"eth0", "lo"}
    assert summary["node"]["memory"]["workingSetBytes"] > pod["memory"]["workingSetBytes"]
    assert summary["node"]["memory"]["availableBytes"] > 0
    assert 0 < summary["node"]["fs"]["availableBytes"] < summary["node"]["fs"]["capacityBytes"]


def test_the_kubelet_tells_of_itself(node, pods) -> None:
    pods.append("one")
    node.pod("one", shell("exec sleep 1000"))
    found = scrape(node, "/metrics")
    assert found["kubelet_running_pods", ""] >= 1
    assert found["kubelet_running_containers", ""] >= 1
    assert found["process_resident_memory_bytes", ""] > 1 << 20
    assert abs(found["process_start_time_seconds", ""] - time.time()) < 600
