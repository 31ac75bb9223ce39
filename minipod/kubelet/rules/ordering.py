"""In which order a pod's containers stop: app containers at once, then sidecars in reverse order of
the spec (newTerminationOrdering, K8S kuberuntime_termination_order.go). Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minipod.kubelet.rules.pods import Pod


def waits_for(pod: Pod, running: Collection[str]) -> dict[str, frozenset[str]]:
    """For each running container those whose end its stop signal waits for; only sidecars wait."""
    before = {c.name for c in pod.containers if c.name in running}
    found = {name: frozenset[str]() for name in running}
    for sidecar in reversed(pod.sidecars):
        if sidecar.name in running:
            found[sidecar.name] = frozenset(before)
            before.add(sidecar.name)
    return found
