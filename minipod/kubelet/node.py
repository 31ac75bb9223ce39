"""The node object: registered once at start, Ready, with what the machine has."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minipod.errors import AlreadyExists
from minipod.kubelet.rules.render import timestamp

if TYPE_CHECKING:
    from minipod.aio.timers import Clock
    from minipod.kubelet.seams import Store

_MAX_PODS = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine has."""

    node_name: str
    cpus: int
    memory: int  # bytes
    host_ip: str = ""

    @property
    def capacity(self) -> dict[str, str]:
        return {"cpu": str(self.cpus), "memory": f"{self.memory // 1024}Ki", "pods": str(_MAX_PODS)}


def read_machine(node_name: str, host_ip: str) -> Machine:
    """Ask the machine."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Machine(
        node_name=node_name or platform.node(),
        cpus=os.cpu_count() or 1,
        memory=pages * size,
        host_ip=host_ip,
    )


async def register(store: Store, machine: Machine, *, version: str, clock: Clock) -> None:
    """Create the node, or bring its status up to date."""
    meta = {
        "name": machine.node_name,
        "labels": {
            "kubernetes.io/hostname": machine.node_name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(
                platform.machine(), platform.machine()
            ),
        },
    }
    status = _status(machine, version, timestamp(clock()) or "")
    node = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}, "status": status}
    try:
        await store.create("nodes", "", node)
    except AlreadyExists:
        await store.mutate(
            "nodes", "", machine.node_name, lambda n: {**n, "status": status}, "status"
        )


def _status(machine: Machine, version: str, now: str) -> dict[str, Any]:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    addresses = [{"type": "Hostname", "address": machine.node_name}]
    if machine.host_ip:
        addresses.insert(0, {"type": "InternalIP", "address": machine.host_ip})
    return {
        "capacity": machine.capacity,
        "allocatable": machine.capacity,
        "conditions": [ready],
        "addresses": addresses,
        "nodeInfo": _node_info(version),
    }


def _node_info(version: str) -> dict[str, str]:
    def read(path: str) -> str:
        try:
            with open(path, encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return ""

    return {
        "machineID": read("/etc/machine-id"),
        "systemUUID": read("/etc/machine-id"),
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": platform.release(),
        "osImage": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        "containerRuntimeVersion": f"minipod://{version}",
        "kubeletVersion": version,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(
            platform.machine(), platform.machine()
        ),
    }
