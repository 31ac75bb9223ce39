"""Metrics of a node under the paths and names that collectors know."""

from __future__ import annotations

import json
import re

from tests.node import shell

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


def test_what_a_container_uses_is_measured_in_every_format(node, pods) -> None:
    pods.append("busy")
    limits = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    node.pod(
        "busy",
        shell("dd if=/dev/zero of=/dev/null bs=1M count=2000; exec sleep 1000", resources=limits),
    )
    for path in ("/metrics/cadvisor", "/metrics/resource"):
        found = scrape(node, path)
        assert found["container_cpu_usage_seconds_total", "busy"] > 0
        assert 0 < found["container_memory_working_set_bytes", "busy"] < 64 << 20
    found = scrape(node, "/metrics/cadvisor")
    assert found["container_spec_memory_limit_bytes", "busy"] == 64 << 20
    assert found["container_spec_cpu_quota", "busy"] == 50_000
    found = scrape(node, "/metrics/resource")
    assert found["pod_memory_working_set_bytes", "busy"] > 0
    assert found["node_cpu_usage_seconds_total", ""] > 0
    assert found["resource_scrape_error", ""] == 0
    summary = json.loads(node.client.open("GET", "/stats/summary").read())
    (pod,) = [p for p in summary["pods"] if p["podRef"]["name"] == "busy"]
    assert pod["containers"][0]["name"] == "app"
    assert pod["containers"][0]["memory"]["workingSetBytes"] > 0
    assert pod["cpu"]["usageCoreNanoSeconds"] > 0
    assert summary["node"]["memory"]["workingSetBytes"] > pod["memory"]["workingSetBytes"]
