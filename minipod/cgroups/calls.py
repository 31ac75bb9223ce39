"""A cgroup, made, limited and entered by nothing but system calls (`minipod.linux.program`).

The same as `Hierarchy.create` and `attach_self` do. What a hierarchy refuses ends the program: those say why. The working directory goes
along: what differs from cgroup to cgroup is one name, and one path for each tree. A container's program has the v1 trees only, for its
process is born in the unified one's cgroup; a pod's has all (*whole*).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from minipod.cgroups.devices import DevicePolicy
from minipod.cgroups.files import read
from minipod.cgroups.hierarchy import Hierarchy, Tree
from minipod.cgroups.resources import v1_settings, v2_settings
from minipod.linux import bpf
from minipod.linux.flags import AT_FDCWD
from minipod.linux.program import FAIL, Buffer, Call, Result, Text
from minipod.spec.container import Resources

_CPUSET = 4096  # bytes of a list of cpus or memory nodes that we take over


@dataclass(frozen=True, slots=True)
class Below:
    """A cgroup in the one that is made: its name, and the controllers that it has in the unified tree."""

    name: Text
    controllers: frozenset[str]


def handed_down(hierarchy: Hierarchy, path: str) -> frozenset[str] | None:
    """Return the controllers of the unified tree that a new cgroup at *path* has; None: it would lack one, and `Hierarchy.create` sees to
    that."""
    tree = hierarchy.unified
    if tree is None or not tree.controllers:
        return frozenset()
    above = os.path.dirname(tree.path(path))
    try:
        available = read(f"{above}/cgroup.controllers").decode().split()
        enabled = read(f"{above}/cgroup.subtree_control").decode().split()
    except FileNotFoundError:
        return None
    ours = tree.controllers.intersection(available)
    return ours if ours <= set(enabled) else None


def names(hierarchy: Hierarchy, path: str, *, whole: bool = False) -> list[Text]:
    """Return what `creation` names: the directory above in each tree, and the cgroup's name behind the first of them."""
    parent, name = os.path.split(path)
    above = [Text(os.fsencode(tree.path(parent))) for tree in _trees(hierarchy, whole=whole)]
    return [*above[:1], Text(os.fsencode(name)), *above[1:]] if above else []


def creation(  # noqa: PLR0913 the last two are a pod's
    hierarchy: Hierarchy,
    named: list[Text],
    resources: Resources,
    devices: DevicePolicy | None,
    fd: int,
    *,
    whole: bool = False,
    below: Below | None = None,
) -> list[Call]:
    """Make the cgroup in each tree, below one that exists, and write its limits; *fd* is the number of what is opened.

    Of a container the calling thread enters it in each tree when it is there (`tasks`); below a pod's (*whole*) an empty one may be made.
    """
    calls: list[Call] = []
    for tree, above in zip(_trees(hierarchy, whole=whole), (*named[:1], *named[2:]), strict=True):
        # One that exists will do; what is wrong otherwise, the next call tells.
        calls.append(Call("chdir", (above,)))
        calls.append(Call("mkdirat", (AT_FDCWD, named[1], 0o755), on_error=0))
        calls.append(Call("chdir", (named[1],)))
        if "cpuset" in tree.controllers and not tree.unified:
            calls += _inherited(fd)
        for setting in (v2_settings if tree.unified else v1_settings)(resources):
            if setting.controller in tree.controllers:
                calls += _written(
                    setting.file.encode(), setting.value, fd=fd, optional=setting.optional
                )
        if "devices" in tree.controllers and devices is not None and not devices.allow_all:
            calls += _written(b"devices.deny", "a", fd=fd)
            rules = (rule.v1() for rule in devices.rules)
            calls += _written(b"devices.allow", *rules, fd=fd)
        if below is not None:
            # Before it is there: who finds it believes that it has them.
            if tree.unified and below.controllers:
                down = (f"+{name}" for name in sorted(below.controllers))
                calls += _written(b"cgroup.subtree_control", *down, fd=fd)
            calls.append(Call("mkdirat", (AT_FDCWD, below.name, 0o755), on_error=0))
        if not whole:
            calls += _written(b"tasks", "0", fd=fd)
    return calls


def usual_devices(hierarchy: Hierarchy, cgroup: int) -> list[Call]:
    """Let a cgroup of the unified tree, open at *cgroup*, use no other devices (`Hierarchy.keep_usual_devices`).

    Nothing where a v1 tree sees to devices.
    """
    if hierarchy.unified is None or "devices" in hierarchy.controllers:
        return []
    arguments = bpf.attach_arguments(cgroup, hierarchy.usual_devices)
    return [Call("bpf", (bpf.BPF_PROG_ATTACH, arguments, len(arguments)))]


def _trees(hierarchy: Hierarchy, *, whole: bool) -> list[Tree]:
    """Return the trees in which a cgroup is made. A container's process enters each at once, so what limits it comes last: memory, and
    the cpu, which it has from then on when those with more shares leave it to it."""
    if whole:
        return list(hierarchy.trees)
    trees = [tree for tree in hierarchy.trees if not tree.unified]
    return sorted(trees, key=lambda t: ("cpu" in t.controllers, "memory" in t.controllers))


def _written(path: bytes, *values: str, fd: int, optional: bool = False) -> list[Call]:
    words = [value.encode() for value in values]
    writes = [Call("write", (fd, word, len(word))) for word in words]
    missing = len(writes) + 1 if optional else FAIL
    return [_open(path, os.O_WRONLY, on_error=missing), *writes, Call("close", (fd,))]


def _inherited(fd: int) -> list[Call]:
    """Copy cpus and mems from the parent (`files.inherit_cpuset`)."""
    calls: list[Call] = []
    for name in (b"cpuset.cpus", b"cpuset.mems"):
        content, length = Buffer(_CPUSET), Result()
        calls += [
            _open(b"../" + name, os.O_RDONLY),
            Call("read", (fd, content, content.size), gives=length),
            Call("close", (fd,)),
            _open(name, os.O_WRONLY),
            Call("write", (fd, content, length)),
            Call("close", (fd,)),
        ]
    return calls


def _open(path: bytes, flags: int, *, on_error: int = FAIL) -> Call:
    return Call("openat", (AT_FDCWD, path, flags | os.O_CLOEXEC), on_error=on_error)
