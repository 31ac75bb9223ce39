"""The cgroups above the pods': all of them together, and the tiers of their QoS (K8S pkg/kubelet/cm/qos_container_manager_linux.go).

kubepods              what the node does not reserve          cpu shares, memory limit (node allocatable)
  pod<uid>            Guaranteed pods
  burstable/pod<uid>  as much weight as their requests say together
  besteffort/pod<uid> the least there is: a busy BestEffort pod takes no cpu from one that asked for it
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from minipod.kubelet.rules.qos import shares
from minipod.spec.container import Resources

if TYPE_CHECKING:
    from minipod.kubelet.node import Machine

logger = logging.getLogger(__name__)

ROOT = "kubepods"
LimitCgroup = Callable[[str, Resources], None]  # make a cgroup below the node's, with these limits


class QosCgroups:
    """*limit* writes limits of a cgroup, whose path begins below the node's. Raises nothing: a pod without weight runs, too."""

    def __init__(self, machine: Machine, limit: LimitCgroup) -> None:
        self._machine = machine
        self._limit = limit
        self._burstable = -1  # thousandths of a cpu that were written last

    def start(self) -> None:
        """Make them; what runs already keeps running in them."""
        machine = self._machine
        memory = machine.memory - machine.reserved_memory if machine.reserved_memory else None
        cpu = shares(machine.cpus * 1000 - machine.reserved_cpu)
        self._write(ROOT, Resources(cpu_shares=cpu, memory_limit=memory))
        self._write(f"{ROOT}/besteffort", Resources(cpu_shares=shares(0)))
        self.set_burstable(0)

    def set_burstable(self, milli_cpu: int) -> None:
        """The requests of all Burstable pods together are *milli_cpu* now."""
        if milli_cpu != self._burstable:
            self._burstable = milli_cpu
            self._write(f"{ROOT}/burstable", Resources(cpu_shares=shares(milli_cpu)))

    def _write(self, path: str, resources: Resources) -> None:
        try:
            self._limit(path, resources)
        except OSError as e:
            logger.warning("cgroup %s: %s", path, e)
