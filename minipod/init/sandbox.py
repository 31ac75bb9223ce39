"""The plan of a sandbox: its cgroup, its namespaces, and what keeps them when no process is in them.

Its steps concern the calling thread alone, once that shares its file system context with nobody (setns(2), unshare(2)). So a thread
of the daemon executes them (`runtime.sandbox_setup`); this module has few imports for that. A user namespace can't be made by a process
that has threads (unshare(2)): that of a pod, and with it the others, is made in a child of the supervisor's.
"""

from __future__ import annotations

from minipod.init.cgroup import CreateCgroup
from minipod.init.namespaces import SetHostname, Unshare, WriteSysctl
from minipod.init.operation import Operation, Plan
from minipod.init.vault import PinNamespaces
from minipod.linux.flags import CloneFlag
from minipod.spec.bundle import SandboxBundle
from minipod.spec.sandbox import NamespaceMode


def shared_kinds(network: NamespaceMode, ipc: NamespaceMode) -> tuple[str, ...]:
    """Return which namespaces the sandbox owns; host network means the host's uts too."""
    kinds = ("net", "uts") if network is NamespaceMode.POD else ()
    return (*kinds, "ipc") if ipc is NamespaceMode.POD else kinds


def sandbox_plan(bundle: SandboxBundle) -> Plan:
    """Return the set-up of a sandbox: outer operations only, no process remains of it."""
    kinds, userns = shared_kinds(bundle.network, bundle.ipc), bundle.userns
    flags = CloneFlag(0)
    for kind in kinds:
        flags |= CloneFlag[f"CLONE_NEW{kind.upper()}"]
    outer: list[Operation] = [
        CreateCgroup(path=bundle.cgroup, resources=bundle.resources),
    ]
    inside: list[Operation] = [SetHostname(name=bundle.hostname)] if "uts" in kinds else []
    inside += [
        WriteSysctl(name=name, value=value, cause="spec.securityContext.sysctls")
        for name, value in bundle.sysctls
    ]
    if userns:
        from minipod.init.userns import MakeUserNamespace  # in the supervisor, which has it already

        kinds = (*kinds, "user")
        outer.append(MakeUserNamespace(ids=userns, flags=flags, kinds=kinds, inside=tuple(inside)))
    else:
        outer += [*([Unshare(flags=flags)] if flags else []), *inside]
    outer.append(
        PinNamespaces(
            sandbox_id=bundle.id,
            kinds=kinds,
            shm_size=bundle.shm_size if bundle.ipc is NamespaceMode.POD else 0,
            shm_owner=userns.first if userns else 0,
        )
    )
    return Plan(outer=tuple(outer))
