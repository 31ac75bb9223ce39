"""The node's book of admitted pods: who takes which ports and amounts, and who waits for room. The rules are `rules.admission`.

A pod that is over is struck out (`release`), and whoever waits looks again: a critical pod for the end of those that make room for it, a
pod for a resize that was deferred.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from minipod.kubelet.rules import admission, preemption, qos
from minipod.kubelet.rules.admission import Claim, Limits, Refusal
from minipod.kubelet.rules.phase import TERMINAL
from minipod.kubelet.rules.preemption import Victim
from minipod.linux import apparmor

if TYPE_CHECKING:
    from collections.abc import Callable

    from minipod.api.placement import NodeFacts
    from minipod.kubelet.node import Machine
    from minipod.kubelet.rules.pods import Pod


@dataclass(frozen=True, slots=True)
class Preempts:
    """The pod may run when these pods are gone."""

    victims: tuple[Pod, ...]


class Admission:
    """Admits pods, each once. What a pod takes is free again when it is over."""

    def __init__(
        self,
        machine: Machine,
        *,
        unsafe_sysctls: tuple[str, ...],
        node: Callable[[], NodeFacts | None],
        pressure: Callable[[], tuple[str, ...]],
        wake: Callable[[str], None],
        burstable: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._admitted: dict[str, tuple[Pod, Claim]] = {}  # by pod uid
        self._burstable = burstable  # told what Burstable pods ask for, thousandths of a cpu
        self._asked: dict[str, int] = {}  # uid of such a pod -> its part of that
        self._waiting: set[str] = set()  # uids of pods that wait for room
        self._wake = wake
        self._node = node
        self._pressure = pressure
        self._limits = Limits(
            allocatable=machine.amounts(),
            unsafe_sysctls=unsafe_sysctls,
            no_apparmor=no_apparmor(),
        )

    def admit(self, pod: Pod) -> Refusal | Preempts | None:
        """Return why *pod* may not run, or not yet; None when it may, or ran before."""
        if pod.uid in self._admitted or pod.status.get("phase") in TERMINAL:
            return None
        if not pod.status.get("startTime"):  # else it was admitted before the kubelet's restart
            limits = replace(self._limits, node=self._node(), pressure=self._pressure())
            refusal = admission.admit(pod, self._others(), limits)
            if refusal is not None:
                return self._make_room(pod, refusal)
        self._take(pod, admission.claim(pod))
        self._waiting.discard(pod.uid)
        return None

    def _take(self, pod: Pod, claim: Claim) -> None:
        self._admitted[pod.uid] = (pod, claim)
        if qos.qos_class(pod) == "Burstable":
            self._asked[pod.uid] = claim.amounts.get("cpu", 0)
            self._burstable(sum(self._asked.values()))

    def _make_room(self, pod: Pod, refusal: Refusal) -> Refusal | Preempts:
        """A critical pod that only lacks room makes others go (HandleAdmissionFailure)."""
        found = admission.shortfalls(admission.claim(pod), self._others(), self._limits)
        if not pod.is_critical or refusal.reason not in {f"OutOf{name}" for name in found}:
            return refusal
        short = {name: used + asked - size for name, (asked, used, size) in found.items()}
        running = [Victim(pod=p, amounts=c.amounts) for p, c in self._admitted.values()]
        victims = preemption.victims(pod, running, short)
        if victims:
            self._waiting.add(pod.uid)
            return Preempts(tuple(victims))
        listed = "".join(f"(res: {name}, q: {amount}), " for name, amount in short.items())
        words = (
            "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to"
            f" preempt: no set of running pods found to reclaim resources: [{listed}]"
        )
        return Refusal(reason="UnexpectedAdmissionError", message=words)

    def resize(self, pod: Pod) -> Refusal | None:
        """Take what a running pod asks for now; return why not (reason Infeasible or Deferred), then it keeps what it had."""
        wanted = admission.claim(pod)
        for name, amount in wanted.amounts.items():
            size = self._limits.allocatable.get(name, 0)
            if amount > size:
                words = f"Node didn't have enough capacity: {name}, requested: {amount}, capacity: {size}"
                return Refusal(reason="Infeasible", message=words)
        others = [claim for uid, (_, claim) in self._admitted.items() if uid != pod.uid]
        refusal = admission.lacking(wanted, others, self._limits)
        if refusal is not None:
            self._waiting.add(pod.uid)
            return Refusal(reason="Deferred", message=refusal.message)
        self._take(pod, wanted)
        self._room()
        return None

    def release(self, uid: str) -> None:
        """The pod is over, or gone. Idempotent."""
        self._waiting.discard(uid)
        if self._asked.pop(uid, None) is not None:
            self._burstable(sum(self._asked.values()))
        if self._admitted.pop(uid, None) is not None:
            self._room()

    def _room(self) -> None:
        """Something may be free: who waits looks again."""
        waiting, self._waiting = self._waiting, set()
        for uid in waiting:
            self._wake(uid)

    def _others(self) -> list[Claim]:
        return [claim for _, claim in self._admitted.values()]


def no_apparmor() -> dict[str, str]:
    """Return why profiles of a type can't be had here: the kernel has no AppArmor, or nothing loads the default one."""
    if not apparmor.enabled():
        why = "AppArmor is not enabled on the host"
        return {"RuntimeDefault": why, "Localhost": why}
    if not os.path.exists(apparmor.PARSER):
        return {"RuntimeDefault": f"{apparmor.PARSER} is missing; install the package apparmor"}
    return {}
