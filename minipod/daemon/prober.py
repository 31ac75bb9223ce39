"""Entry point of the prober's process: the kubelet's prober, with its exec over the runtime. Imports nothing of the daemon.

It runs in a cgroup of its own with a high cpu weight: it needs little, and that at once, however busy pods and daemon are. A nice value
alone weighs only against what is in the same cgroup.
"""

from __future__ import annotations

import sys

from minipod.cgroups.hierarchy import of_node
from minipod.spec.container import Resources
from minipod.spec.instance import Instance

# For asyncio there is no TLS then: only HTTPS probes need it, which load it themselves (`probe.streams`).
sys.modules["ssl"] = None  # type: ignore[assignment]
from minipod.kubelet.probe import prober  # noqa: E402
from minipod.runtime.probe_exec import ProbeExec  # noqa: E402

del sys.modules["ssl"]

CPU_SHARES = 16 * 1024  # as much as pods with requests for 16 processors


def main(instance: Instance) -> None:
    """Probe until SIGTERM."""
    hierarchy = of_node(instance.run_dir)
    cgroup = f"{instance.cgroup_root}/_prober"
    hierarchy.create(cgroup, Resources(cpu_shares=CPU_SHARES))
    hierarchy.attach(cgroup, 0)
    prober.main(instance, ProbeExec)
