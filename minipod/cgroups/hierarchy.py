"""The machine's cgroup trees as one thing: create, limit, enter, kill and remove a cgroup in all of them at once.

    V1      every controller has a tree of its own
    HYBRID  v1 trees for the controllers, and a unified tree besides: kill, populated events and BPF work there
    V2      one unified tree, with the controllers

Under systemd on v2 the root belongs to systemd: the node lives below the cgroup that was delegated to it (`base`).
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass

from minipod.cgroups.devices import DevicePolicy
from minipod.cgroups.files import (
    apply,
    delegate,
    field,
    inherit_cpuset,
    kill_listed,
    leaves_first,
    read,
    write,
)
from minipod.cgroups.resources import v1_settings, v2_settings
from minipod.linux import bpf
from minipod.spec.container import Resources

BASE = "cgroup-base"  # file in the run directory: where the node's tree begins, "" for the root of the hierarchy
REMOVE_DEADLINE = 5.0  # seconds for killed processes to leave a cgroup
CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb")  # what we hand down on v2


V1_STATS = {"memory": "memory.usage_in_bytes", "pids": "pids.current", "cpuacct": "cpuacct.usage"}
V2_STATS = {"memory": "memory.current", "pids": "pids.current"}


class Mode(enum.Enum):
    V1 = "v1"
    HYBRID = "hybrid"
    V2 = "v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One mounted hierarchy. *base* is the path below which the node lives, "" for its root."""

    mountpoint: str
    controllers: frozenset[str]
    unified: bool = False
    base: str = ""

    def path(self, cgroup: str) -> str:
        return f"{self.mountpoint}{self.base}/{cgroup}"


class Hierarchy:
    """All trees. Every method is synchronous; OSError carries the path."""

    def __init__(self, mode: Mode, trees: tuple[Tree, ...]) -> None:
        self.mode = mode
        self.trees = trees
        self.unified = next((t for t in trees if t.unified), None)
        self.controllers: frozenset[str] = frozenset().union(*(t.controllers for t in trees))
        self.usual_devices = -1  # an fd, see `keep_usual_devices`

    def mountpoints(self) -> list[str]:
        """Return where the trees begin, for a look at what is there."""
        return [t.mountpoint + t.base for t in self.trees]

    def settle(self, path: str, run_dir: str) -> None:
        """Put the calling process into the cgroup at *path*, the first that the node makes; record where its tree begins.

        In a delegated cgroup others may be before us (our starter): they move along, since a cgroup with controllers for
        its children has no processes of its own (cgroup-v2.rst, "No Internal Process Constraint").
        """
        base = ""
        if self.unified is not None and self.unified.base:
            base = self.unified.base
            os.makedirs(self.unified.path(path), exist_ok=True)
            for pid in read(f"{self.unified.mountpoint}{base}/cgroup.procs").split():
                write(f"{self.unified.path(path)}/cgroup.procs", pid.decode())
            directory = self.unified.mountpoint + base
            for part in ("", *path.split("/")[:-1]):
                directory = os.path.join(directory, part)
                delegate(directory, self.unified.controllers)
        self.create(path, Resources())
        self.attach(path, 0)
        with open(f"{run_dir}/{BASE}", "w", encoding="utf-8") as f:
            f.write(base)

    # -- create, limit, enter

    def create(
        self, path: str, resources: Resources, *, devices: DevicePolicy | None = None
    ) -> None:
        """Make the cgroup (and what is missing above it) in every tree, and write its limits."""
        for tree in self.trees:
            self._make(tree, path)
        self.update(path, resources)
        if devices is not None and not devices.allow_all:
            self._limit_devices(path, devices)

    def _make(self, tree: Tree, path: str) -> None:
        directory = tree.path(path)
        cpuset = "cpuset" in tree.controllers and not tree.unified
        try:
            os.mkdir(directory, 0o755)
        except FileExistsError:
            if not cpuset or read(f"{directory}/cpuset.mems").strip():
                return  # an empty one: who made it was cut off
        except FileNotFoundError:
            self._make(tree, os.path.dirname(path))
            os.mkdir(directory, 0o755)
        if cpuset:
            inherit_cpuset(directory)
        if tree.unified and tree.controllers:
            # A child has only the controllers that its parent hands down (cgroup-v2.rst, "Top-down Constraint").
            delegate(os.path.dirname(directory), tree.controllers)

    def update(self, path: str, resources: Resources) -> None:
        """Write limits; a controller that this machine lacks is skipped, a value it refuses is an OSError."""
        for tree in self.trees:
            self._limit(tree, path, resources)

    def limit_unified(self, path: str, resources: Resources) -> None:
        """Write the limits that the unified tree has, of a cgroup that exists there; of the v1 trees see `minipod.cgroups.calls`."""
        if self.unified is not None:
            self._limit(self.unified, path, resources)

    def _limit(self, tree: Tree, path: str, resources: Resources) -> None:
        for setting in (v2_settings if tree.unified else v1_settings)(resources):
            if setting.controller in tree.controllers:
                apply(tree.path(path), setting)

    def _limit_devices(self, path: str, devices: DevicePolicy) -> None:
        """Let nothing but *devices* be used."""
        for tree in self.trees:
            if "devices" in tree.controllers:
                directory = tree.path(path)
                write(f"{directory}/devices.deny", "a")
                write(f"{directory}/devices.allow", *(rule.v1() for rule in devices.rules))
                return
        if (cgroup := self.open_unified(path)) < 0:
            return
        try:
            program = _load(devices)
            try:
                bpf.attach_device_program(cgroup, program)
            finally:
                os.close(program)
        finally:
            os.close(cgroup)

    def keep_usual_devices(self) -> None:
        """Hold the BPF program that most containers have: for the kernel to verify it takes longer than all else of a cgroup (0.4 ms)."""
        if self.unified is not None and "devices" not in self.controllers:
            with contextlib.suppress(OSError):  # the first container will say why
                self.usual_devices = _load(DevicePolicy.of(privileged=False))

    def attach(self, path: str, pid: int) -> None:
        """Put *pid* (0: the calling process) into the cgroup, in every tree."""
        for tree in self.trees:
            write(f"{tree.path(path)}/cgroup.procs", str(pid))

    def attach_self(self, path: str) -> None:
        """Put this single-threaded process into the cgroup in every v1 tree.

        Moving just the calling thread spares the global lock that `cgroup.procs` takes, and with it an RCU grace period (10 ms
        measured; kernel/cgroup/cgroup.c, cgroup_procs_write_start). The unified tree has no such file: its members are born
        there (`open_unified`).
        """
        for tree in self.trees:
            if not tree.unified:
                write(f"{tree.path(path)}/tasks", "0")

    def open_tasks(self, path: str) -> Iterator[int]:
        """Yield an fd of the cgroup's `tasks` in each v1 tree: whoever writes "0" to all of them does what `attach_self` does."""
        for tree in self.trees:
            if not tree.unified:
                yield os.open(f"{tree.path(path)}/tasks", os.O_WRONLY | os.O_CLOEXEC)

    def make_unified(self, path: str) -> None:
        """Make the cgroup in the unified tree alone, for a process that is to be born there. Idempotent."""
        if self.unified is not None:
            self._make(self.unified, path)

    def open_unified(self, path: str) -> int:
        """Return an fd of the cgroup in the unified tree, for clone3; -1: there is no such tree."""
        if self.unified is None:
            return -1
        return os.open(self.unified.path(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    # -- look

    def procs(self, path: str) -> list[int]:
        """Return the pids in the cgroup itself, not below it."""
        tree = self.unified or self.trees[0]
        try:
            return [int(p) for p in read(f"{tree.path(path)}/cgroup.procs").split()]
        except FileNotFoundError:
            return []

    def oom_kills(self, path: str) -> int:
        """Return how many processes the kernel's OOM killer ended in it."""
        for tree in self.trees:
            if "memory" in tree.controllers:
                name = "memory.events" if tree.unified else "memory.oom_control"
                for line in read(f"{tree.path(path)}/{name}").splitlines():
                    if line.startswith(b"oom_kill "):
                        return int(line.split()[1])
        return 0

    def stats(self, path: str) -> dict[str, int]:
        """Return `memory`, `working_set` (bytes), `pids` and `cpu_ns` in use; what this machine can't tell is left out.

        The working set is what can't be reclaimed easily: memory without inactive file pages (cadvisor, and so kubectl top).
        """
        found: dict[str, int] = {}
        for tree in self.trees:
            names, inactive = (V2_STATS if tree.unified else V1_STATS), b"inactive_file"
            for controller, name in names.items():
                if controller in tree.controllers:
                    key = "cpu_ns" if controller == "cpuacct" else controller
                    found[key] = int(read(f"{tree.path(path)}/{name}"))
            if "memory" in tree.controllers:
                inactive = inactive if tree.unified else b"total_inactive_file"
                reclaimable = field(read(f"{tree.path(path)}/memory.stat"), inactive)
                found["working_set"] = max(0, found["memory"] - reclaimable)
            if tree.unified and "cpu" in tree.controllers:
                found["cpu_ns"] = field(read(f"{tree.path(path)}/cpu.stat"), b"usage_usec") * 1000
        return found

    # -- freeze, kill, remove

    def freeze(self, path: str, *, frozen: bool) -> None:
        """Stop every process in it, or let them go on."""
        for tree in self.trees:
            if "freezer" in tree.controllers:
                write(f"{tree.path(path)}/freezer.state", "FROZEN" if frozen else "THAWED")
                return
        if self.unified is not None:
            write(f"{self.unified.path(path)}/cgroup.freeze", "1" if frozen else "0")

    def kill(self, path: str) -> None:
        """SIGKILL everything in it and below. Idempotent; returns before the processes are gone."""
        tree = self.trees[0]
        if self.unified is not None:
            try:
                write(f"{self.unified.path(path)}/cgroup.kill", "1")
            except FileNotFoundError:
                pass  # no such cgroup, or a kernel before 5.14
            else:
                if tree.unified:
                    return  # else go on: a set-up's first process is in the v1 trees only
        for directory in leaves_first(tree.path(path)):
            kill_listed(f"{directory}/cgroup.procs")

    def remove(self, path: str) -> None:
        """Remove it and everything below, waiting for processes that were killed. Idempotent."""
        if self.remove_empty(path):
            return
        deadline = time.monotonic() + REMOVE_DEADLINE
        for tree in self.trees:
            for directory in leaves_first(tree.path(path)):
                self._rmdir(directory, path, deadline)

    def remove_empty(self, path: str) -> bool:
        """Remove it where it has neither processes nor children; return whether it is gone. Idempotent; waits for nobody."""
        gone = True
        for tree in self.trees:
            try:
                os.rmdir(tree.path(path))
            except FileNotFoundError:
                continue
            except OSError:  # EBUSY
                gone = False
        return gone

    def _rmdir(self, directory: str, path: str, deadline: float) -> None:
        while True:
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                return
            except OSError as e:
                if e.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                self._await_empty(path, deadline)
            else:
                return

    def _await_empty(self, path: str, deadline: float) -> None:
        """Wait for the unified tree's "populated 0"; without one, for a moment (v1 has no such event)."""
        if self.unified is None:
            time.sleep(0.001)
            return
        try:
            fd = os.open(f"{self.unified.path(path)}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            time.sleep(0.001)  # gone there, not yet in a v1 tree
            return
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while b"populated 1" in os.pread(fd, 256, 0) and time.monotonic() < deadline:
                poll.poll(100)
        except OSError as e:
            if e.errno != errno.ENODEV:
                raise
        finally:
            os.close(fd)
        time.sleep(0.0005)  # a zombie leaves its v1 cgroups a moment after the event


def _load(devices: DevicePolicy) -> int:
    """Return an fd of the BPF program that lets *devices* be used."""
    rules = tuple((r.kind, r.major, r.minor, r.access) for r in devices.rules)
    return bpf.load_device_program(bpf.device_program(rules))


def of_node(run_dir: str) -> Hierarchy:
    """Return the trees of the node with that run directory, whoever asks and from which cgroup."""
    try:
        base = read(f"{run_dir}/{BASE}").decode()
    except FileNotFoundError:
        return detect()
    found = detect(base)
    gone = found.unified is not None and not os.path.isdir(found.unified.mountpoint + base)
    return detect() if gone else found


def detect(base: str | None = None) -> Hierarchy:
    """Find the mounted trees. *base*: the node's place in the unified tree; None: what systemd has delegated to this process."""
    trees, unified = [], None
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for line in f:
            fields = line.split()
            dash = fields.index("-")
            kind, point, options = fields[dash + 1], fields[4], fields[dash + 3]
            if kind == "cgroup":
                names = frozenset(options.split(",")) - {"rw", "ro", "xattr", "none"}
                trees.append(Tree(mountpoint=point, controllers=names))
            elif kind == "cgroup2" and unified is None:
                unified = point
    if unified is None:
        return Hierarchy(Mode.V1, tuple(trees))
    available = frozenset(read(f"{unified}/cgroup.controllers").decode().split())
    taken = frozenset().union(*(t.controllers for t in trees))
    place = base if base is not None else ("" if trees else delegated_base(unified))
    tree = Tree(
        mountpoint=unified,
        controllers=(available & frozenset(CONTROLLERS)) - taken,
        unified=True,
        base=place,
    )
    return Hierarchy(Mode.HYBRID if trees else Mode.V2, (*trees, tree))


def delegated_base(mountpoint: str) -> str:
    """Return the nearest cgroup above this process that systemd has delegated (it marks them so), "" when there is none."""
    own = read("/proc/self/cgroup").decode().rpartition("::")[2].strip()
    while own != "/":
        try:
            if os.getxattr(mountpoint + own, "trusted.delegate") == b"1":
                return own
        except OSError:
            pass  # ENODATA: not marked
        own = os.path.dirname(own)
    return ""
