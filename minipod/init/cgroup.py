"""Operations that make a process' cgroup and let it in."""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable
from dataclasses import dataclass

from minipod.cgroups import calls as cgroup_calls
from minipod.cgroups.devices import DevicePolicy, Rule
from minipod.cgroups.hierarchy import Hierarchy
from minipod.cgroups.resources import v1_settings
from minipod.init.operation import Context, NotDirect, Repeats
from minipod.linux.program import Call, Text
from minipod.spec.container import Device, Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateCgroup(Repeats):
    """Make the cgroup in every hierarchy and write its limits: nothing may be allocated before."""

    path: str
    resources: Resources
    privileged: bool | None = None  # None: no device policy (a pod's cgroup)
    devices: tuple[Device, ...] = ()
    cause: str = ""

    def describe(self) -> str:
        return f"cgroup {self.path}: create, limit"

    def apply(self, context: Context) -> None:
        policy = None
        if self.privileged is not None:
            extra = tuple(_rule(d) for d in self.devices)
            policy = DevicePolicy.of(privileged=self.privileged, extra=extra)
        context.hierarchy.create(self.path, self.resources, devices=policy)

    def limit_unified(self, hierarchy: Hierarchy, cgroup: int) -> list[Call]:
        """Do what `calls` leaves out: the limits of the unified tree's cgroup, open at *cgroup*, for the child is born there.

        Return what is to be done before that.
        """
        hierarchy.limit_unified(self.path, self.resources)
        return [] if self.privileged else cgroup_calls.usual_devices(hierarchy, cgroup)

    def calls(self, context: Context) -> list[Call]:
        """Those for the v1 trees, which are entered, too (`EnterCgroup`): a path for each tree less."""
        if self.privileged is None or self.devices:
            raise NotDirect("devices of the host's")
        return cgroup_calls.creation(
            context.hierarchy,
            self.texts(context),
            self.resources,
            DevicePolicy.of(privileged=self.privileged),
            context.numbers.next(),
        )

    def shape(self) -> Hashable:
        return type(self), tuple(v1_settings(self.resources)), self.privileged, self.devices

    def texts(self, context: Context) -> list[Text]:
        return cgroup_calls.names(context.hierarchy, self.path)


def _rule(device: Device) -> Rule:
    info = os.stat(device.host_path)
    kind = "b" if stat.S_ISBLK(info.st_mode) else "c"
    return Rule(kind, os.major(info.st_rdev), os.minor(info.st_rdev), device.permissions)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterCgroup(Repeats):
    """Enter the cgroup in the v1 trees; in the unified tree the main process is born there (`child.fork_main`)."""

    path: str
    cause: str = ""

    def describe(self) -> str:
        return f"cgroup {self.path}: enter"

    def apply(self, context: Context) -> None:
        context.hierarchy.attach_self(self.path)

    def calls(self, context: Context) -> list[Call]:
        """Nothing: by the short way each is entered when it is made."""
        return []

    def shape(self) -> Hashable:
        return (type(self),)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCgroup:
    """Open the cgroup of the unified tree while it can be seen: the main process is to be born there."""

    path: str
    cause: str = ""

    def describe(self) -> str:
        return f"cgroup {self.path}: open"

    def apply(self, context: Context) -> None:
        context.fds["cgroup"] = context.hierarchy.open_unified(self.path)
