"""What of an instance exists on the machine and is owned by no record: `minipod doctor --leaks`."""

from __future__ import annotations

import os

from minipod.daemon.node import request, service_pids
from minipod.errors import MinipodError
from minipod.linux import process
from minipod.spec.instance import Instance


def leaks(instance: Instance) -> list[str]:
    """Return one line for each mount, namespace, cgroup, link, rule, lease, directory and process that nothing owns."""
    found: list[str] = []
    containers = _names(f"{instance.run_dir}/containers")
    sandboxes = {
        n.removesuffix(".json")
        for n in _names(f"{instance.run_dir}/sandboxes")
        if n.endswith(".json")
    }
    found += [
        f"directory {instance.state_dir}/containers/{name}"
        for name in _names(f"{instance.state_dir}/containers") - containers
    ]
    found += _cgroups(instance, containers)
    pods = _pods(instance)
    found += _mounts(instance, pods)
    found += _volumes(instance, pods)
    found += _network(instance, sandboxes)
    found += _pins(instance, sandboxes)
    found += _processes(instance)
    return sorted(found)


def _names(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except FileNotFoundError:
        return set()


def _cgroups(instance: Instance, containers: set[str]) -> list[str]:
    from minipod.cgroups.hierarchy import of_node

    found = []
    for mountpoint in of_node(instance.run_dir).mountpoints():
        root = f"{mountpoint}/{instance.cgroup_root}/kubepods"
        for path, _, _ in os.walk(root):
            name = os.path.basename(path)
            if len(name) == 32 and name not in containers:
                found.append(f"cgroup {path}")
    return found


def _mounts(instance: Instance, pods: set[str] | None) -> list[str]:
    """Containers mount in namespaces of their own: the machine's has the run directory, the vault and pods' volumes."""
    ours = (instance.run_dir, f"{instance.run_dir}/vault")
    volumes = f"{instance.state_dir}/pods/"
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        points = [line.split()[4] for line in f]
    below = tuple(f"{d}/" for d in (instance.run_dir, instance.state_dir))
    found = []
    for point in points:
        owned = point in ours
        if point.startswith(volumes):
            owned = pods is None or point[len(volumes) :].split("/")[0] in pods
        if point.startswith(below) and not owned:
            found.append(f"mount {point}")
    return found


def _volumes(instance: Instance, pods: set[str] | None) -> list[str]:
    if pods is None:
        return []
    directories = (f"{instance.state_dir}/pods", f"{instance.run_dir}/pods")
    return [f"directory {d}/{uid}" for d in directories for uid in _names(d) - pods]


def _pods(instance: Instance) -> set[str] | None:
    """Return the uids of all pods; None when no daemon can tell."""
    try:
        answer = request(instance, "GET", "/api/v1/pods")
    except MinipodError:
        return None
    return {pod["metadata"]["uid"] for pod in answer["items"]}


def _network(instance: Instance, sandboxes: set[str]) -> list[str]:
    from minipod.network.network import Network

    return Network(instance).leaks(sandboxes)


def _pins(instance: Instance, sandboxes: set[str]) -> list[str]:
    from minipod.init.vault import pinned

    try:
        fd = os.open(f"{instance.run_dir}/vault", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        return [f"namespaces of sandbox {name}" for name in pinned(fd) if name not in sandboxes]
    finally:
        os.close(fd)


def _processes(instance: Instance) -> list[str]:
    """Look into the node's own cgroup: who is no service and too old for a set-up (it hangs in the kernel)."""
    from minipod.cgroups.hierarchy import of_node

    known = service_pids(instance).values()
    found = []
    for pid in of_node(instance.run_dir).procs(f"{instance.cgroup_root}/_node"):
        try:
            old = process.age(pid) > instance.setup_deadline
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as f:
                name = f.read().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if pid not in known and old:
            found.append(f"process {pid} ({name})")
    return found
