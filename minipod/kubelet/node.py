"""The node object: registered once at start, Ready, with what the machine has."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from minipod.errors import AlreadyExists
from minipod.kubelet.rules.quantity import milli, whole
from minipod.linux.libc import GOARCH, MACHINE
from minipod.linux.namespaces import user_namespaces_max

if TYPE_CHECKING:
    from collections.abc import Mapping

    from minipod.api.store import Store
    from minipod.spec.instance import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this machine has."""

    node_name: str
    cpus: int
    memory: int  # bytes
    disk: int = 0  # bytes of the file system that holds images, containers and emptyDirs
    hugepages: Mapping[str, int] = field(default_factory=dict)  # "2Mi" -> bytes
    reserved_cpu: int = 0  # thousandths
    reserved_memory: int = 0  # bytes
    kept_memory: int = 0  # bytes that eviction keeps available
    max_pods: int = 110
    host_ip: str = ""
    runtime_handlers: tuple[str, ...] = ()  # that a RuntimeClass may name

    @property
    def capacity(self) -> dict[str, str]:
        return {
            "cpu": str(self.cpus),
            "memory": f"{self.memory // 1024}Ki",
            "ephemeral-storage": f"{self.disk // 1024}Ki",
            **{f"hugepages-{size}": str(amount) for size, amount in self.hugepages.items()},
            "pods": str(self.max_pods),
        }

    @property
    def allocatable(self) -> dict[str, str]:
        """What pods may take: capacity without what is reserved and what eviction keeps free."""
        amounts = self.amounts()
        found = {name: str(amount) for name, amount in amounts.items()}
        cpu = amounts["cpu"]
        found["cpu"] = str(cpu // 1000) if cpu % 1000 == 0 else f"{cpu}m"
        found["memory"] = f"{amounts['memory'] // 1024}Ki"
        return found

    def amounts(self) -> dict[str, int]:
        """Allocatable in thousandths of a cpu, bytes, and pods."""
        return {
            "cpu": self.cpus * 1000 - self.reserved_cpu,
            "memory": max(0, self.memory - self.reserved_memory - self.kept_memory),
            "ephemeral-storage": self.disk * 9 // 10,
            **{f"hugepages-{size}": amount for size, amount in self.hugepages.items()},
            "pods": self.max_pods,
        }


def node_name(instance: Instance) -> str:
    """Return the node's name: the setting, else the host's name."""
    return instance.node_name or platform.node()


def read_machine(instance: Instance, host_ip: str) -> Machine:
    """Ask the machine. Raises InvalidSpec for a reserved amount that is no quantity."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    os.makedirs(instance.state_dir, 0o700, exist_ok=True)
    disk = os.statvfs(instance.state_dir)
    return Machine(
        node_name=node_name(instance),
        cpus=os.cpu_count() or 1,
        memory=pages * size,
        disk=disk.f_blocks * disk.f_frsize,
        hugepages=_hugepages(),
        reserved_cpu=milli(instance.reserved_cpu),
        reserved_memory=whole(instance.reserved_memory),
        kept_memory=instance.eviction_memory,
        max_pods=instance.max_pods,
        host_ip=host_ip or primary_address(instance),
        runtime_handlers=instance.runtime_handlers,
    )


def primary_address(instance: Instance) -> str:
    """Return the address that the machine reaches others from; the gateway's on a machine without a default route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            # asks for the route only: a datagram socket sends nothing (TEST-NET-1, RFC 5737)
            asked.connect(("192.0.2.1", 9))
        except OSError:
            return instance.gateways[0]
        return str(asked.getsockname()[0])


def _hugepages() -> dict[str, int]:
    """Return the bytes of each size of huge pages that the machine has set aside."""
    base, found = "/sys/kernel/mm/hugepages", {}
    for name in os.listdir(base) if os.path.isdir(base) else ():
        kilobytes = int(name.removeprefix("hugepages-").removesuffix("kB"))
        with open(f"{base}/{name}/nr_hugepages", encoding="ascii") as file:
            count = int(file.read())
        if count:
            size = f"{kilobytes >> 20}Gi" if kilobytes >= 1 << 20 else f"{kilobytes >> 10}Mi"
            found[size] = count * kilobytes * 1024
    return found


async def register(store: Store, machine: Machine, *, version: str) -> None:
    """Create the node, or bring its status up to date; its conditions come with the first heartbeat."""
    meta = {
        "name": machine.node_name,
        "labels": {
            "kubernetes.io/hostname": machine.node_name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": GOARCH[MACHINE],
        },
    }
    status = _status(machine, version)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}, "status": status}
    try:
        await store.create("nodes", "", node)
    except AlreadyExists:
        # The conditions that are there stay until the first heartbeat: times of transition live on.
        await store.mutate(
            "nodes",
            "",
            machine.node_name,
            lambda n: {**n, "status": {**(n.get("status") or {}), **status}},
            "status",
        )


def _status(machine: Machine, version: str) -> dict[str, Any]:
    addresses = [{"type": "Hostname", "address": machine.node_name}]
    if machine.host_ip:
        addresses.insert(0, {"type": "InternalIP", "address": machine.host_ip})
    return {
        "capacity": machine.capacity,
        "allocatable": machine.allocatable,
        "addresses": addresses,
        "nodeInfo": _node_info(version),
        "runtimeHandlers": [
            {"name": name, "features": _features()} for name in ("", *machine.runtime_handlers)
        ],
        "features": {"supplementalGroupsPolicy": True},
    }


def _features() -> dict[str, bool]:
    return {"recursiveReadOnlyMounts": True, "userNamespaces": user_namespaces_max() > 0}


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
        "architecture": GOARCH[MACHINE],
    }
