"""What of an instance exists on the machine and is owned by no record: `minipod doctor --leaks`."""

from __future__ import annotations

import os

from minipod.spec.instance import Instance


def leaks(instance: Instance) -> list[str]:
    """Return one line for each mount, cgroup, link, lease, directory and process that nothing owns."""
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
    found += _mounts(instance, containers)
    found += _network(instance, sandboxes)
    return sorted(found)


def _names(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except FileNotFoundError:
        return set()


def _cgroups(instance: Instance, containers: set[str]) -> list[str]:
    from minipod.cgroups.hierarchy import detect

    found = []
    for mountpoint in detect().mountpoints():
        root = f"{mountpoint}/{instance.cgroup_root}/kubepods"
        for path, _, _ in os.walk(root):
            name = os.path.basename(path)
            if len(name) == 32 and name not in containers:
                found.append(f"cgroup {path}")
    return found


def _mounts(instance: Instance, containers: set[str]) -> list[str]:
    prefix = f"{instance.run_dir}/containers/"
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        points = [line.split()[4] for line in f]
    return [
        f"mount {p}"
        for p in points
        if p.startswith(prefix) and p[len(prefix) :].split("/")[0] not in containers
    ]


def _network(instance: Instance, sandboxes: set[str]) -> list[str]:
    from minipod.network.network import Network

    return Network(instance).leaks(sandboxes)
