"""Which pods make room for a critical one that the node has no room for (K8S pkg/kubelet/preemption). Pure.

As few as possible, and rather a BestEffort pod than a Burstable one, rather that than a Guaranteed one; of one class always the pod
that comes nearest to what is still missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minipod.kubelet.rules import qos

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from minipod.kubelet.rules.pods import Pod

MESSAGE = "Preempted in order to admit critical pod"
DISRUPTION = "Pod was preempted by Kubelet to accommodate a critical pod."
_CLASSES = ("BestEffort", "Burstable", "Guaranteed")  # who goes first


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A pod that may go, and what is free then."""

    pod: Pod
    amounts: Mapping[str, int]


def preemptable(by: Pod, pod: Pod) -> bool:
    return (by.is_critical and not pod.is_critical) or by.priority > pod.priority


def victims(by: Pod, running: Iterable[Victim], short: Mapping[str, int]) -> list[Pod]:
    """Return who must go so that *short* (resource -> what is missing) is free; none when all together would not do."""
    classes: dict[str, list[Victim]] = {name: [] for name in _CLASSES}
    for one in running:
        if preemptable(by, one.pod):
            classes[qos.qos_class(one.pod)].append(one)
    best, burst, sure = (classes[name] for name in _CLASSES)
    if _missing(short, (*best, *burst, *sure)):
        return []
    # What the classes before could free is not asked of the next one.
    from_sure = _nearest(sure, _missing(short, (*best, *burst)))
    from_burst = _nearest(burst, _missing(short, (*best, *from_sure)))
    from_best = _nearest(best, _missing(short, (*from_burst, *from_sure)))
    return [one.pod for one in (*from_best, *from_burst, *from_sure)]


def _missing(short: Mapping[str, int], going: Sequence[Victim]) -> dict[str, int]:
    left = {
        name: amount - sum(v.amounts.get(name, 0) for v in going) for name, amount in short.items()
    }
    return {name: amount for name, amount in left.items() if amount > 0}


def _nearest(candidates: list[Victim], missing: Mapping[str, int]) -> list[Victim]:
    """Take the pod that leaves the least missing, until nothing is; of equals the smaller."""
    chosen: list[Victim] = []
    left = [*candidates]
    while missing and left:
        best = min(left, key=lambda v: (_distance(v, missing), sum(v.amounts.values())))
        left.remove(best)
        chosen.append(best)
        missing = _missing(missing, (best,))
    return chosen


def _distance(victim: Victim, missing: Mapping[str, int]) -> float:
    """0 when it frees all that is missing, the sum of squared shares otherwise."""
    shares = (max(0.0, 1 - victim.amounts.get(name, 0) / want) for name, want in missing.items())
    return sum(share * share for share in shares)
