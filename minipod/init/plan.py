"""The plans: pure functions from a bundle to the operations that build it, in the order of container set-up.

Why this order:

* the cgroup first, so that nothing is allocated outside of it;
* the sandbox's namespaces are joined before own ones are made;
* the cgroup namespace is made in all of the cgroups, or its root is wrong;
* volume sources are opened before anything is mounted, so that they can't be exchanged; and in the copied mount namespace, which has
  no mount of a mount namespace (as the vault's pin is): the kernel attaches no tree with one in it (ELOOP), and a hostPath of / would fail.
  The short way, which makes no copy, opens them in the host's, and leaves such a tree to the long one (`filesystem.MountRoot`);
* devices and mounts come before pivot_root, masks after it, while there are capabilities for them;
* the console is opened before the user changes;
* seccomp is loaded before the capabilities go, unless no_new_privs allows it last.

What differs for a pod in a user namespace of its own, and why: `minipod.init.userns`.
"""

from __future__ import annotations

from dataclasses import replace

from minipod.cgroups.hierarchy import Hierarchy, Mode
from minipod.init.attach import AttachMount
from minipod.init.cgroup import CreateCgroup, EnterCgroup, OpenCgroup
from minipod.init.device import (
    CopyDevice,
    InstallStdio,
    MakeDeviceNodes,
    OpenConsole,
    OpenDevice,
    OpenFifos,
)
from minipod.init.filesystem import MountCgroups, MountFilesystem, MountRoot, SetPropagation
from minipod.init.identity import (
    ChangeDirectory,
    ChangeProfile,
    Execve,
    FindExecutable,
    LoadSeccomp,
    SetIdentity,
    SetOomScoreAdj,
    SetRlimits,
    VerifyDirectory,
)
from minipod.init.namespaces import JoinCgroupNamespace, JoinContainer, JoinNamespaces, Unshare
from minipod.init.operation import Operation, Plan
from minipod.init.root import MaskPaths, PivotRoot, ReadOnlyPaths, ReadOnlyRoot
from minipod.init.sandbox import shared_kinds
from minipod.init.sources import OpenImage, OpenSource
from minipod.init.userns import (
    NODE_PATHS,
    AttachRoot,
    BecomeRoot,
    BindDevices,
    CloneDevices,
    CloneRoot,
    EnterUserNamespace,
    LinkDevices,
    MountMappedRoot,
)
from minipod.init.vault import OpenPins
from minipod.linux.flags import CloneFlag, MountFlag
from minipod.spec.bundle import Bundle, ExecBundle, Process
from minipod.spec.container import Mount
from minipod.spec.sandbox import NamespaceMode

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What containers have alike is made once: it is hundreds of fields less for each of them.
ISOLATED = Unshare(flags=CloneFlag.CLONE_NEWNS | CloneFlag.CLONE_NEWCGROUP)
PROPAGATION = SetPropagation()
PROC = MountFilesystem(fstype="proc", target="/proc")
SYS_WRITABLE = MountFilesystem(fstype="sysfs", target="/sys")
SYS = replace(SYS_WRITABLE, flags=SYS_WRITABLE.flags | MountFlag.MS_RDONLY)
DEV = MountFilesystem(
    fstype="tmpfs", target="/dev", flags=MountFlag.MS_NOSUID, options="mode=755,size=64k"
)
NODES = MakeDeviceNodes()
PTS = MountFilesystem(
    fstype="devpts",
    target="/dev/pts",
    flags=MountFlag.MS_NOSUID | MountFlag.MS_NOEXEC,
    options="newinstance,ptmxmode=0666,mode=0620,gid=5",
)
MQUEUE = MountFilesystem(fstype="mqueue", target="/dev/mqueue", optional=True)
SHM = AttachMount(key="shm", target="/dev/shm")  # noqa: S108 the mount itself
STDIO = InstallStdio()
SECCOMP = LoadSeccomp()
VERIFIED = VerifyDirectory()


def container_plan(bundle: Bundle, cgroups: MountCgroups) -> Plan:
    """Return the set-up of *bundle*; *cgroups* is how this machine's hierarchies are shown."""
    rest = (
        *_filesystem(bundle, cgroups),
        *_process(bundle.process, console=True, readonly_root=bundle.rootfs.readonly),
    )
    execute = _execute(bundle.process)
    if bundle.userns:
        return Plan(
            outer=tuple(_mapped(bundle)),
            inner=(
                AttachRoot(mountpoint=bundle.rootfs.mountpoint),
                BecomeRoot(),
                # Only here is this process in all of its cgroups: made earlier, the namespace's root would be wrong.
                Unshare(flags=CloneFlag.CLONE_NEWCGROUP),
                *rest,
            ),
            execute=execute,
            cgroup=bundle.cgroup,
        )
    entered = _entered(bundle)
    if bundle.pid is NamespaceMode.TARGET:
        # seen by others from its birth on: it has the sandbox's namespaces by then
        return Plan(
            outer=tuple(entered),
            inner=(*_isolated(bundle), *rest),
            execute=execute,
            cgroup=bundle.cgroup,
        )
    own_pid = bundle.pid is NamespaceMode.CONTAINER
    return Plan(
        inner=(*entered, *_isolated(bundle), *rest),
        execute=execute,
        cgroup=bundle.cgroup,
        new=CloneFlag.CLONE_NEWPID if own_pid else CloneFlag(0),
    )


def cgroup_mounts(hierarchy: Hierarchy) -> MountCgroups:
    """Return how the trees of this machine are shown in a container."""
    v1 = sorted(",".join(sorted(t.controllers)) for t in hierarchy.trees if not t.unified)
    unified = {Mode.V1: "", Mode.HYBRID: "unified", Mode.V2: "."}[hierarchy.mode]
    return MountCgroups(v1=tuple(n for n in v1 if "name=" not in n), unified=unified)


def _entered(bundle: Bundle) -> list[Operation]:
    """The cgroup, and what must be done before the mount namespace changes; then the namespaces of the sandbox."""
    kinds, userns = shared_kinds(bundle.network, bundle.ipc), bundle.userns
    process = bundle.process
    operations: list[Operation] = [
        CreateCgroup(
            path=bundle.cgroup,
            resources=bundle.resources,
            privileged=bundle.privileged,
            devices=bundle.devices,
            cause=f"{bundle.cause}.resources" if bundle.cause else "",
        ),
        EnterCgroup(path=bundle.cgroup),
        SetOomScoreAdj(value=process.oom_score_adj),
    ]
    if process.rlimits:
        operations.append(SetRlimits(limits=process.rlimits))
    if not process.tty:
        operations.append(
            OpenFifos(
                directory=bundle.directory,
                uid=userns.host(process.uid) if userns else process.uid,
                gid=userns.host(process.gid) if userns else process.gid,
                stdin=process.stdin,
            )
        )
    opened = (*kinds, "user") if userns else kinds
    return [
        *operations,
        *_devices(bundle),
        OpenPins(sandbox_id=bundle.sandbox_id, kinds=opened, shm=bundle.ipc is NamespaceMode.POD),
        JoinNamespaces(kinds=kinds, target_pid=bundle.pid is NamespaceMode.TARGET),
    ]


def _isolated(bundle: Bundle) -> list[Operation]:
    """What the main process does to be on its own, up to the sources."""
    operations: list[Operation] = [
        ISOLATED,  # in all of its cgroups by now: made earlier, the cgroup namespace's root would be wrong
        *(_source(f"mount:{i}", m) for i, m in enumerate(bundle.mounts)),
    ]
    if bundle.ipc is NamespaceMode.NODE:
        operations.append(OpenSource(key="shm", path="/dev/shm", cause="spec.hostIPC"))  # noqa: S108 the host's
    return operations


def _devices(bundle: Bundle) -> list[Operation]:
    cause = f"{bundle.cause}.devices"
    if not bundle.userns:
        return [OpenDevice(source=d.host_path, cause=cause) for d in bundle.devices]
    clones: list[Operation] = [CloneDevices(sources=NODE_PATHS)]
    if bundle.devices:
        clones.append(CloneDevices(sources=tuple(d.host_path for d in bundle.devices), cause=cause))
    return clones


def _mapped(bundle: Bundle) -> list[Operation]:
    """What must be done by the host's root, in a process of its own: sources, then (nothing may reach the host from here on) what is
    mounted to map it; the user namespace, and pid and mount namespaces that it owns."""
    root, keys = bundle.rootfs, list(enumerate(bundle.mounts))
    mount_root = MountMappedRoot(root=root) if root.mapped else MountRoot(root=root)
    own_pid = bundle.pid is NamespaceMode.CONTAINER
    return [
        *_entered(bundle),
        Unshare(flags=CloneFlag.CLONE_NEWNS),
        *(_source(f"mount:{i}", m) for i, m in keys if not m.layers),
        PROPAGATION,
        *(_source(f"mount:{i}", m, stage=root.mountpoint) for i, m in keys if m.layers),
        mount_root,
        CloneRoot(mountpoint=root.mountpoint),
        EnterUserNamespace(
            flags=CloneFlag.CLONE_NEWNS | (CloneFlag.CLONE_NEWPID if own_pid else CloneFlag(0))
        ),
    ]


def _source(key: str, mount: Mount, *, stage: str = "") -> Operation:
    if mount.layers:
        return OpenImage(
            key=key, image=mount.image, layers=mount.layers, stage=stage, cause=mount.cause
        )
    return OpenSource(
        key=key, path=mount.host_path, sub_path=mount.sub_path, mapped=mount.mapped, cause=mount.cause
    )  # fmt: skip


def _filesystem(bundle: Bundle, cgroups: MountCgroups) -> list[Operation]:
    root: list[Operation] = [PROPAGATION, MountRoot(root=bundle.rootfs)]
    operations: list[Operation] = [
        *([] if bundle.userns else root),
        PROC,
        SYS_WRITABLE if bundle.privileged else SYS,
        cgroups,
        DEV,
        *_nodes(bundle),
        PTS,
        MQUEUE,
        SHM,
    ]
    operations += [
        AttachMount(
            key=f"mount:{i}",
            target=m.container_path,
            source=m.host_path or m.image,
            part=m.sub_path if m.layers else "",
            readonly=m.readonly,
            recursive_readonly=m.recursive_readonly,
            propagation=m.propagation,
            cause=m.cause,
        )
        for i, m in enumerate(bundle.mounts)
    ]
    operations.append(PivotRoot(mountpoint=bundle.rootfs.mountpoint))
    if bundle.masked_paths:
        operations.append(MaskPaths(paths=bundle.masked_paths))
    if bundle.readonly_paths:
        operations.append(ReadOnlyPaths(paths=bundle.readonly_paths))
    return operations


def _nodes(bundle: Bundle) -> list[Operation]:
    if not bundle.userns:
        copies = [CopyDevice(source=d.host_path, target=d.container_path) for d in bundle.devices]
        return [NODES, *copies]
    own = [(path, path) for path in NODE_PATHS]
    asked = [(d.host_path, d.container_path) for d in bundle.devices]
    return [BindDevices(devices=(*own, *asked)), LinkDevices()]


def _process(process: Process, *, console: bool, readonly_root: bool = False) -> list[Operation]:
    """Return what every process of ours goes through on its way, an exec like a container."""
    operations: list[Operation] = []
    if process.tty:
        operations.append(OpenConsole(uid=process.uid, bind=console))
    operations.append(STDIO)
    operations.append(ChangeDirectory(path=process.cwd, create=console))
    if readonly_root:
        operations.append(ReadOnlyRoot())
    if process.apparmor:
        operations.append(ChangeProfile(profile=process.apparmor))
    if not process.no_new_privs:
        operations.append(SECCOMP)
    path = next((e[5:] for e in process.env if e.startswith("PATH=")), DEFAULT_PATH)
    operations += [
        SetIdentity(
            uid=process.uid,
            gid=process.gid,
            groups=process.groups,
            capabilities=process.capabilities,
            no_new_privs=process.no_new_privs,
        ),
        ChangeDirectory(path=process.cwd, final=True),
        VERIFIED,
        FindExecutable(name=process.argv[0], path=path, parked=console),
    ]
    return operations


def _execute(process: Process) -> tuple[Operation, ...]:
    execve = Execve(argv=process.argv, env=process.env)
    return (SECCOMP, execve) if process.no_new_privs else (execve,)


def exec_plan(bundle: ExecBundle, cgroup: str, *, userns: bool = False) -> Plan:
    """Return one more process in a container: its cgroups first, then all its namespaces at once, *userns*: with its user namespace."""
    process = bundle.process
    outer: list[Operation] = [
        EnterCgroup(path=cgroup),
        SetOomScoreAdj(value=process.oom_score_adj),
    ]
    if process.rlimits:
        outer.append(SetRlimits(limits=process.rlimits))
    become: list[Operation] = [BecomeRoot()] if userns else []
    return Plan(
        outer=(*outer, OpenCgroup(path=cgroup), JoinContainer(user=userns)),
        inner=(*become, JoinCgroupNamespace(), *_process(process, console=False)),
        execute=_execute(process),
        cgroup=cgroup,
    )
