"""What the prober counts, and its text form (Prometheus exposition format 0.0.4).

    prober_probe_total               results, with the kubelet's labels (K8S prober/prober_manager.go)
    prober_probe_duration_seconds    how long an answer took; failures are left out, as in the original
    minipod_prober_lateness_seconds  how long after its due time a probe began: the prober's own health

A probe's counters live as long as its worker.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from minipod.kubelet.rules.probe import Outcome

if TYPE_CHECKING:
    from minipod.kubelet.probe.targets import Target

DURATIONS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)  # seconds, Prometheus' own
LATENESS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_RESULTS = {
    Outcome.SUCCESS: "successful",
    Outcome.WARNING: "successful",
    Outcome.FAILURE: "failed",
    Outcome.ERROR: "unknown",
}


class Histogram:
    """Counts by upper bounds; the last is +Inf."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """The series of one histogram; *labels* without braces."""
        comma = "," if labels else ""
        reached = 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            reached += count
            yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {reached}'
        braces = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{braces} {self.total:.6f}"
        yield f"{name}_count{braces} {reached}"


class ProbeCounters:
    """The counters of one probe."""

    __slots__ = ("durations", "results")

    def __init__(self) -> None:
        self.results: dict[str, int] = {}
        self.durations = Histogram(DURATIONS)

    def count(self, outcome: Outcome, seconds: float) -> None:
        """One attempt that took *seconds*."""
        result = "successful" if outcome is Outcome.SUCCESS else _RESULTS[outcome]
        self.results[result] = self.results.get(result, 0) + 1
        if result != "failed":
            self.durations.observe(seconds)


def text(probes: Iterable[tuple[Target, ProbeCounters]], lateness: Histogram) -> str:
    """Everything, as `/metrics/probes` tells it."""
    probes = sorted(probes, key=lambda pair: pair[0].key)
    lines = [
        "# HELP prober_probe_total Cumulative number of a liveness, readiness or startup probe for a container by result.",
        "# TYPE prober_probe_total counter",
    ]
    for target, counters in probes:
        for result, count in sorted(counters.results.items()):
            labels = f'{_labels(target)},pod_uid="{target.pod_uid}",result="{result}"'
            lines.append(f"prober_probe_total{{{labels}}} {count}")
    lines += [
        "# HELP prober_probe_duration_seconds Duration in seconds for a probe response.",
        "# TYPE prober_probe_duration_seconds histogram",
    ]
    for target, counters in probes:
        lines += counters.durations.lines("prober_probe_duration_seconds", _labels(target))
    lines += [
        "# HELP minipod_prober_lateness_seconds Time between a probe's due time and its begin.",
        "# TYPE minipod_prober_lateness_seconds histogram",
        *lateness.lines("minipod_prober_lateness_seconds", ""),
    ]
    return "\n".join(lines) + "\n"


def _labels(target: Target) -> str:
    return (
        f'container="{target.container}",namespace="{target.namespace}",pod="{target.pod}",'
        f'probe_type="{target.kind.value.title()}"'
    )
