"""The node's book of admitted pods: who takes which ports and amounts. The rules are `rules.admission`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from minipod.kubelet.rules import admission
from minipod.kubelet.rules.admission import Claim, Limits, Refusal
from minipod.kubelet.rules.phase import TERMINAL

if TYPE_CHECKING:
    from minipod.kubelet.node import Machine
    from minipod.kubelet.rules.pods import Pod
    from minipod.kubelet.status import StatusManager


class Admission:
    """Admits pods, each once. What a pod takes is free again when it is over."""

    def __init__(
        self, machine: Machine, statuses: StatusManager, unsafe_sysctls: tuple[str, ...]
    ) -> None:
        self._statuses = statuses
        self._claims: dict[str, Claim] = {}  # by pod uid
        self._limits = Limits(
            allocatable=machine.amounts(),
            unsafe_sysctls=unsafe_sysctls,
            apparmor=apparmor_enabled(),
        )

    def admit(self, pod: Pod) -> Refusal | None:
        """Return why *pod* may not run; None when it may, or ran before."""
        if pod.uid in self._claims or pod.status.get("phase") in TERMINAL:
            return None
        if not pod.status.get("startTime"):  # else it was admitted before the kubelet's restart
            refusal = admission.admit(pod, self._others(), self._limits)
            if refusal is not None:
                return refusal
        self._claims[pod.uid] = admission.claim(pod)
        return None

    def resize(self, pod: Pod) -> Refusal | None:
        """Take what a running pod asks for now; return why not, then it keeps what it had."""
        before = self._claims.pop(pod.uid, None)
        refusal = admission.admit(pod, self._others(), self._limits)
        if refusal is None:
            self._claims[pod.uid] = admission.claim(pod)
        elif before is not None:
            self._claims[pod.uid] = before
        return refusal

    def forget(self, uid: str) -> None:
        """The pod is gone. Idempotent."""
        self._claims.pop(uid, None)

    def _others(self) -> list[Claim]:
        for uid in list(self._claims):
            status = self._statuses.get(uid)
            if status is not None and status.get("phase") in TERMINAL:
                del self._claims[uid]
        return list(self._claims.values())


def apparmor_enabled() -> bool:
    """Whether this kernel enforces AppArmor."""
    path = "/sys/module/apparmor/parameters/enabled"
    if not os.path.exists(path):
        return False
    with open(path, encoding="ascii") as file:
        return file.read(1) == "Y"
