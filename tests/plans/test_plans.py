"""Plans are values: what a bundle turns into is compared, line by line, with a file.

See `golden` for how to write the files anew.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from minipod.init import plan
from minipod.init.filesystem import MountCgroups
from minipod.init.sandbox import sandbox_plan
from minipod.spec.bundle import Bundle, ExecBundle, Process, RootFs, SandboxBundle
from minipod.spec.container import Device, Mount, Propagation, Resources
from minipod.spec.sandbox import NamespaceMode, UserNamespace
from tests.plans import golden

V1 = MountCgroups(v1=("cpu", "memory"), unified="unified")
V2 = MountCgroups(unified=".")

USERNS = UserNamespace(first=1 << 20)
PROCESS = Process(argv=("sh", "-c", "true"), env=("PATH=/bin",), capabilities=("CHOWN", "KILL"))
BUNDLE = Bundle(
    id="c1", sandbox_id="s1", title="default/web/app", directory="/run/t/containers/c1", log_path="/log/0.log",
    cgroup="t/kubepods/pod1/c1", resources=Resources(memory_limit=1 << 20),
    rootfs=RootFs(lower=("/l2", "/l1"), upper="/u", work="/w", mountpoint="/run/t/containers/c1/rootfs"),
    mounts=(
        Mount(host_path="/data", container_path="/data", readonly=True, cause="spec.containers[0].volumeMounts[0]"),
    ),
    masked_paths=("/proc/kcore",), readonly_paths=("/proc/sys",), process=PROCESS, cause="spec.containers[0]",
)  # fmt: skip

CASES = {
    "container-v1": plan.container_plan(BUNDLE, V1),
    "container-v2-nnp-tty": plan.container_plan(
        replace(
            BUNDLE,
            process=replace(
                PROCESS, tty=True, no_new_privs=True, uid=1000, gid=1000, apparmor="minipod-default"
            ),
            rootfs=replace(BUNDLE.rootfs, readonly=True),
        ),
        V2,
    ),
    "container-hostnetwork-shared": plan.container_plan(
        replace(
            BUNDLE,
            network=NamespaceMode.NODE,
            mounts=(replace(BUNDLE.mounts[0], propagation=Propagation.BIDIRECTIONAL),),
        ),
        V1,
    ),
    "sandbox": sandbox_plan(
        SandboxBundle(
            id="s1", title="default/web", hostname="web", cgroup="t/kubepods/pod1",
            sysctls=(("net.ipv4.ip_local_port_range", "1024 65535"),),
        )
    ),
    "container-target": plan.container_plan(replace(BUNDLE, pid=NamespaceMode.TARGET, target_pid=7), V2),
    "container-userns": plan.container_plan(
        replace(
            BUNDLE,
            userns=USERNS,
            process=replace(PROCESS, uid=1000, gid=1000),
            rootfs=replace(BUNDLE.rootfs, mapped=True),
            devices=(Device(host_path="/dev/kvm", container_path="/dev/kvm"),),
            mounts=(
                replace(BUNDLE.mounts[0], mapped=True),
                Mount(host_path="/termination", container_path="/dev/termination-log"),
                Mount(host_path="", image="tools:1", layers=("/t2", "/t1"), container_path="/tools"),
            ),
        ),
        V2,
    ),
    "sandbox-userns": sandbox_plan(
        SandboxBundle(
            id="s1", title="default/web", hostname="web", cgroup="t/kubepods/pod1", userns=USERNS,
            sysctls=(("kernel.shmmax", "65536"),),
        )
    ),
    "exec-userns": plan.exec_plan(ExecBundle(id="e1", container_id="c1", process=PROCESS), "t/kubepods/pod1/c1", userns=True),
    "exec": plan.exec_plan(ExecBundle(id="e1", container_id="c1", process=PROCESS), "t/kubepods/pod1/c1"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_plan_reads_as_its_golden_file(name: str) -> None:
    golden.compare(name, CASES[name].describe())


def test_the_cgroup_is_entered_before_anything_is_opened() -> None:
    names = [type(o).__name__ for o in CASES["container-v1"].inner]
    assert names.index("EnterCgroup") < names.index("OpenFifos") < names.index("OpenSource")


def test_whoever_joins_a_user_namespace_can_not_be_traced_there() -> None:
    text = "\n".join(CASES["container-userns"].describe())
    assert (
        text.index("not dumpable") < text.index("setns user") < text.index("of the user namespace")
    )
    assert "not dumpable; setns pidfd: mnt uts ipc user pid net" in CASES["exec-userns"].describe()


def test_whoever_is_born_among_others_has_nothing_of_the_hosts_any_more() -> None:
    """In their /proc they see its mounts and connections, whatever rights they have."""
    for name in ("exec", "exec-userns", "container-target"):
        assert "setns" in CASES[name].outer[-1].describe()
        assert CASES[name].new == 0


def test_seccomp_comes_last_only_with_no_new_privs() -> None:
    assert [type(o).__name__ for o in CASES["container-v1"].execute] == ["Execve"]
    assert [type(o).__name__ for o in CASES["container-v2-nnp-tty"].execute] == [
        "LoadSeccomp",
        "Execve",
    ]
