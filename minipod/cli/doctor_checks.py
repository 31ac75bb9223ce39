"""What of this machine works: each check tries the thing itself, in a forked child where it would change the caller.

A check returns (state, what was found); state is ok, degraded or missing. `costs` says what a missing one costs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from minipod.cgroups.hierarchy import Mode, detect
from minipod.linux import (
    apparmor,
    credentials,
    mount,
    namespaces,
    nftables,
    prctl,
    process,
    seccomp,
)
from minipod.linux.flags import AT, CloneFlag, MountAttr, MountFlag
from minipod.network import masquerade
from minipod.network.rtnl import NLM_F_CREATE, RTM_NEWLINK, Request, Rtnl, ifinfomsg, nested, text

OK, DEGRADED, MISSING = "ok", "degraded", "missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the table."""

    name: str
    state: str
    found: str
    costs: str = ""


def run_all() -> Iterator[Finding]:
    """Yield every finding."""
    yield _kernel()
    yield from (_namespace(kind, flag) for kind, flag in NAMESPACES.items())
    yield _cgroups()
    yield from _controllers()
    yield _tried("overlayfs", _overlay, "no container root file systems")
    yield _tried("bridge and veth", _veth, "no pod network")
    yield _tried("nftables", _nftables, "pods reach no address outside the node")
    yield from _forwarding()
    yield _tried("seccomp", _seccomp, "containers run without a system call filter")
    yield _apparmor()
    yield _tried("mount_setattr, open_tree", _open_tree, "no volumes (needs Linux 5.12)")
    yield _tried("id-mapped mounts", _idmapped, "no hostUsers: false (see docs/user-namespaces.md)")
    yield _tried("pidfd", _pidfd, "no safe signals (needs Linux 5.3)")
    yield from _capabilities()


NAMESPACES = {
    "mount": CloneFlag.CLONE_NEWNS, "pid": CloneFlag.CLONE_NEWPID, "network": CloneFlag.CLONE_NEWNET,
    "ipc": CloneFlag.CLONE_NEWIPC, "uts": CloneFlag.CLONE_NEWUTS, "cgroup": CloneFlag.CLONE_NEWCGROUP,
    "user": CloneFlag.CLONE_NEWUSER, "time": CloneFlag.CLONE_NEWTIME,
}  # fmt: skip


def _kernel() -> Finding:
    release = os.uname().release
    version = tuple(int(n) for n in release.split("-")[0].split(".")[:2])
    state = OK if version >= (5, 14) else DEGRADED
    return Finding(
        "kernel",
        state,
        f"Linux {release} {os.uname().machine}",
        "minipod is tried on 6.1 and newer",
    )


def in_child(function: Callable[[], None]) -> str:
    """Run *function* in a forked child; return "" or what went wrong."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            function()
            os._exit(0)
        except BaseException as e:
            os.write(writer, str(e).encode()[:512])
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as f:
        said = f.read().decode()
    _, status = os.waitpid(pid, 0)
    return said if status else ""


def _tried(name: str, function: Callable[[], None], costs: str) -> Finding:
    said = in_child(function)
    return Finding(name, MISSING if said else OK, said or "works", costs)


def _namespace(kind: str, flag: CloneFlag) -> Finding:
    costs = {"user": "no hostUsers: false", "time": "nothing yet"}.get(kind, "minipod does not run")
    return _tried(f"{kind} namespace", lambda: namespaces.unshare(flag), costs)


def _cgroups() -> Finding:
    try:
        hierarchy = detect()
    except OSError as e:
        return Finding("cgroups", MISSING, str(e), "minipod does not run")
    names = ", ".join(sorted(c for c in hierarchy.controllers if "=" not in c))
    return Finding("cgroups", OK, f"{hierarchy.mode.value}: {names}")


def _controllers() -> Iterator[Finding]:
    hierarchy = detect()
    for name, costs in (
        ("memory", "no memory limits"), ("cpu", "no cpu limits"), ("pids", "no limit of processes"),
        ("cpuset", "no pinning to cpus"), ("hugetlb", "no limits of huge pages"),
    ):  # fmt: skip
        if name not in hierarchy.controllers:
            yield Finding(f"cgroup controller {name}", MISSING, "not in any hierarchy", costs)
    if hierarchy.mode is Mode.V1:
        yield Finding(
            "unified hierarchy", DEGRADED, "not mounted", "killing a container takes a loop"
        )


def _overlay() -> None:
    namespaces.unshare(CloneFlag.CLONE_NEWNS)
    mount.mount("", "/", "", MountFlag.MS_REC | MountFlag.MS_PRIVATE)
    mount.mount("t", "/mnt", "tmpfs", MountFlag(0))
    for name in ("l", "u", "w", "m"):
        os.mkdir(f"/mnt/{name}")
    options = "lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w"
    mount.mount("overlay", "/mnt/m", "overlay", MountFlag(0), options)


def _veth() -> None:
    namespaces.unshare(CloneFlag.CLONE_NEWNET)
    with Rtnl() as host:
        for kind in ("bridge", "veth"):
            body = ifinfomsg() + text(3, f"try{kind}") + nested(18, text(1, kind))
            host.execute(
                (Request(what=f"create {kind}", kind=RTM_NEWLINK, flags=NLM_F_CREATE, body=body),),
                kind,
            )


def _nftables() -> None:
    namespaces.unshare(CloneFlag.CLONE_NEWNET)
    nftables.run([{"add": {"table": {"family": "inet", "name": "try"}}}])


def _forwarding() -> Iterator[Finding]:
    try:
        drops = masquerade.foreign_drops()
    except OSError:
        return  # the line above says it
    if drops:
        costs = "pods reach no address outside the node: accept the bridge's packets there"
        yield Finding("forwarding", DEGRADED, f"dropped by policy in {', '.join(drops)}", costs)


def _seccomp() -> None:
    program = seccomp.compile_profile(frozenset(credentials.DEFAULT))
    prctl.set_no_new_privs()
    seccomp.load(program)


def _apparmor() -> Finding:
    costs = "pods that want an AppArmor profile are rejected"
    if not apparmor.enabled():
        return Finding("AppArmor", DEGRADED, "not enabled in the kernel", costs)
    if not os.path.exists(apparmor.PARSER):
        found = f"{apparmor.PARSER} is missing"
        return Finding("AppArmor", DEGRADED, found, "no profile RuntimeDefault: install apparmor")
    return Finding("AppArmor", OK, "works")


def _open_tree() -> None:
    fs = mount.fsopen("tmpfs")
    mount.fsconfig_create(fs)
    tree = mount.fsmount(fs, MountAttr(0))
    mount.mount_setattr(tree, "", MountAttr.RDONLY, flags=AT.EMPTY_PATH)


def _idmapped() -> None:
    """What a pod in a user namespace has for its root: an overlay over id-mapped directories of the state's disk."""
    from minipod.init.operation import Context
    from minipod.init.sources import OpenImage
    from minipod.init.sync import StepFailed, Unheard
    from minipod.init.userns import MakeUserNamespace
    from minipod.spec.sandbox import UserNamespace

    context = Context(sync=Unheard(), hierarchy=detect())
    ids = UserNamespace(first=1 << 20)
    try:
        MakeUserNamespace(ids=ids, flags=CloneFlag(0), kinds=("user",)).apply(context)
    except StepFailed as e:
        raise OSError(e.errno, e.detail) from e
    namespaces.unshare(CloneFlag.CLONE_NEWNS)
    mount.mount("", "/", "", MountFlag.MS_REC | MountFlag.MS_PRIVATE)
    OpenImage(key="try", image="", layers=("/var/lib", "/var/cache"), stage="/mnt").apply(context)


def _pidfd() -> None:
    process.pidfd_send_signal(process.pidfd_open(os.getpid()), 0)


def _capabilities() -> Iterator[Finding]:
    have = credentials.get_capabilities()["effective"]
    missing = [name for name in credentials.NAMES if name not in have]
    costs = "raising rlimits and lowering oom_score_adj fail; minipod warns and goes on"
    if not missing:
        yield Finding("capabilities", OK, "all")
    elif missing == ["SYS_RESOURCE"]:
        yield Finding("capabilities", DEGRADED, "no SYS_RESOURCE", costs)
    else:
        yield Finding(
            "capabilities", DEGRADED, f"without {' '.join(missing)}", "see capabilities(7)"
        )
    if os.geteuid() != 0:
        yield Finding("root", MISSING, f"uid {os.geteuid()}", "minipod does not run")
