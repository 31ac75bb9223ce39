"""Entry point of the prober's process: the kubelet's prober, with its exec over the runtime. Imports nothing of the daemon."""

from __future__ import annotations

from minipod.kubelet.probe import prober
from minipod.runtime.probe_exec import ProbeExec
from minipod.spec.instance import Instance


def main(instance: Instance) -> None:
    """Probe until SIGTERM."""
    prober.main(instance, ProbeExec)
