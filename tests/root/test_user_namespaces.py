"""hostUsers: false, asked of the kernel: what a pod is inside of its user namespace, and what that is on the host.

Excluded: what validation refuses (unit tests), the failing of each step (test_node_faults).
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

from minipod.cgroups.hierarchy import detect
from minipod.init import sync
from minipod.init.child import run
from minipod.init.operation import Context
from minipod.init.userns import MakeUserNamespace
from minipod.linux import mount, namespaces
from minipod.linux.flags import CloneFlag, MountFlag, UmountFlag
from minipod.spec.sandbox import UserNamespace
from tests.node import eventually, shell, sleeper
from tests.parked import parked_exec
from tests.root.conftest import INSTANCE
from tests.root.test_node_adoption import await_other, kill_and_wait


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def ids(pid: int) -> UserNamespace:
    inside, first, length = Path(f"/proc/{pid}/uid_map").read_text(encoding="ascii").split()
    assert inside == "0"
    return UserNamespace(first=int(first), length=int(length))


@pytest.fixture
def place():
    """A directory on a disk: tmpfs can't be id-mapped before Linux 6.3."""
    # Of this run's name: a mount in there is no leak of the others'.
    with tempfile.TemporaryDirectory(dir="/var/lib", prefix=f"{INSTANCE}-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def volumes(place: Path) -> dict[str, Any]:
    return {
        "volumes": [
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "host", "hostPath": {"path": str(place)}},
            {"name": "about", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}, "mode": 0o400}]}},
            {"name": "image", "image": {"reference": "busybox:1.36"}},
        ]
    }  # fmt: skip


MOUNTS = [{"name": n, "mountPath": f"/{n}"} for n in ("disk", "memory", "host", "about", "image")]


@pytest.mark.smoke
def test_a_pod_has_users_and_namespaces_of_its_own(node, pods, place) -> None:
    pods.append("own")
    (place / "theirs").touch()
    os.chown(place / "theirs", 1000, 1000)
    spec = volumes(place) | {"shareProcessNamespace": True}
    container = sleeper(
        volumeMounts=MOUNTS, livenessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1}
    )
    pod = node.pod("own", container, hostUsers=False, **spec)
    pid = node.containers(pod)["app"]["pid"]
    userns = ids(pid)
    assert userns.length == 65536
    assert status(pid)["Uid"].split() == [str(userns.first)] * 4
    for kind in ("user", "net", "ipc", "uts", "pid", "mnt", "cgroup"):
        assert namespace(pid, kind) != namespace(os.getpid(), kind)
    script = (
        "id -u; hostname; cat /proc/self/uid_map | tr -s ' '; stat -c %u / /etc/hosts /etc/hostname /etc/resolv.conf /dev/shm /disk /memory"
        " /host /host/theirs /about/name /image/bin/busybox; cat /about/name; echo; for d in / /disk /memory /host /dev/shm;"
        " do touch $d/made && stat -c %u:%g $d/made; done; chown 7:8 /disk/made /host/made; echo x > /dev/null;"
        " echo '# more' >> /etc/hosts; echo said > /dev/termination-log; echo 1 > /dev/stderr"
    )
    said = node.exec("own", "sh", "-c", script).split("\n")
    assert said[:3] == ["0", "own", f" 0 {userns.first} 65536"]
    assert said[3:14] == ["0", "0", "0", "0", "0", "0", "0", "0", "1000", "0", "0"]
    assert said[14:20] == ["own", *["0:0"] * 5]
    # The host's owners: on id-mapped mounts what the pod calls them, elsewhere the pod's own.
    made = os.stat(place / "made")
    assert (made.st_uid, made.st_gid) == (7, 8)
    upper = f"{node.instance.state_dir}/containers/{node.containers(pod)['app']['id']}/upper/made"
    assert os.stat(upper).st_uid == userns.first
    assert "nobody" not in node.exec("own", "ps", "-o", "user,pid,args")
    found = node.client.request("GET", "/api/v1/nodes")["items"][0]["status"]["runtimeHandlers"]
    assert all(handler["features"]["userNamespaces"] for handler in found)


def test_users_and_groups_are_those_inside(node, pods, place) -> None:
    """A user that is not root: its streams, terminal, token, group of the volumes; one that the namespace does not have."""
    pods += ["user", "beyond"]
    place.chmod(0o777)
    spec = volumes(place)
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}}
    spec["volumes"].append({"name": "token", "projected": {"sources": [token]}})
    script = (
        "echo out > /dev/stdout; touch /host/mine /disk/mine /memory/mine /dev/shm/mine; stat -c %u:%g /disk/mine /memory/mine;"
        " cat /about/name && echo; cut -c1-3 /token/token; id -u; id -G; exec sleep 1000"
    )
    mounts = [*MOUNTS, {"name": "token", "mountPath": "/token"}]
    node.pod(
        "user", shell(script, volumeMounts=mounts, tty=True), hostUsers=False, **spec,
        securityContext={"runAsUser": 1000, "runAsGroup": 1001, "fsGroup": 2000, "supplementalGroups": [65535]},
    )  # fmt: skip
    wanted = 7  # lines
    eventually(lambda: node.log("user").count("\n") == wanted)
    lines = node.log("user").splitlines()
    assert lines[:3] == ["out", "1000:2000", "1000:2000"]
    assert lines[3:6] == ["user", "eyJ", "1000"]
    assert set(lines[6].split()) == {"1001", "2000", "65535"}
    assert node.exec("user", "id", "-u") == "1000\n"
    assert (os.stat(place / "mine").st_uid, os.stat(place / "mine").st_gid) == (1000, 1001)
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerError"
    node.pod("beyond", sleeper(securityContext={"runAsUser": 70000}), hostUsers=False, wait=reason)
    said = node.state("beyond")["waiting"]["message"]
    assert "70000 is not in the pod's user namespace (0 to 65535)" in said


def test_root_of_a_pod_is_nobody_on_the_node(node, pods) -> None:
    """Privileged and unmasked as it may be: its capabilities concern what its user namespace owns."""
    pods.append("priv")
    node.pod("priv", sleeper(securityContext={"privileged": True}), hostUsers=False)
    pid = node.containers(node.get("priv"))["app"]["pid"]
    assert int(status(pid)["CapEff"], 16) & 0xFFFFFFFF == 0xFFFFFFFF
    script = (
        "mount -t tmpfs none /tmp && echo mounted; hostname other && hostname; ip link add d type dummy && echo linked;"
        " echo 7 > /proc/sys/kernel/shmmni && echo shared; echo x > /proc/sys/kernel/core_pattern; mknod /n c 1 1;"
        " echo 1 > /proc/sysrq-trigger; echo -1000 > /proc/1/oom_score_adj; dmesg -c; date -s 1;"
        " ls /sys/firmware > /dev/null && echo unmasked"
    )
    said = node.exec("priv", "sh", "-c", f"({script}) 2>/dev/null", check=False).split("\n")
    assert [
        word for word in said if word in ("mounted", "other", "linked", "shared", "unmasked")
    ] == said[:-1]
    assert {"mounted", "other", "shared"} <= set(said)


def test_a_volume_that_can_not_be_mapped_is_an_error_with_its_name(node, pods) -> None:
    pods.append("sys")
    container = sleeper(volumeMounts=[{"name": "sys", "mountPath": "/s"}])
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerError"
    node.pod(
        "sys", container, hostUsers=False, volumes=[{"name": "sys", "hostPath": {"path": "/sys"}}], wait=reason,
    )  # fmt: skip
    said = node.state("sys")["waiting"]["message"]
    assert "/sys" in said
    assert "its file system can't be id-mapped by this kernel" in said
    assert "(from spec.containers[0].volumeMounts[0])" in said


@pytest.mark.smoke
def test_all_layers_of_an_image_are_mapped(node, pods, tmp_path) -> None:
    """As a root file system, which is written and where an upper layer has removed something; and as a volume."""
    pods.append("layers")
    (tmp_path / "a").write_text("a")
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox:1.36\nCOPY --chown=1000:1001 a /one/a\nRUN rm /one/a; mkdir /two; chown 7 /two; echo b > /two/b; mknod /two/p p\n"
    )
    node.run("image", "build", "-t", "layers:1", str(tmp_path))
    container = sleeper(image="layers:1", volumeMounts=[{"name": "v", "mountPath": "/v"}])
    volume = [{"name": "v", "image": {"reference": "layers:1"}}]
    node.pod("layers", container, hostUsers=False, volumes=volume)
    script = (
        "for at in '' /v; do stat -c %u:%g $at/one $at/two $at/two/b $at/bin/busybox; ls $at/one; done; touch /v/x || echo readonly;"
        " rm /two/b; mv /two /three; chown 0 /three; ls -A /three; stat -c %u /three; su - -c 'id -u'"
    )
    said = node.exec("layers", "sh", "-c", script).split()
    assert said == [*["0:0", "7:0", "0:0", "0:0"] * 2, "readonly", "p", "0", "0"]
    node.run("image", "rm", "layers:1", check=False)


def test_sysctls_and_name_are_set_in_the_namespaces_of_the_pod(node, pods) -> None:
    pods.append("named")
    sysctls = [
        {"name": "kernel.shm_rmid_forced", "value": "1"},
        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "7"},
    ]
    node.pod(
        "named", sleeper(), hostUsers=False, hostname="chosen", securityContext={"sysctls": sysctls}
    )
    read = "hostname; cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start"
    assert node.exec("named", "sh", "-c", read).split() == ["chosen", "1", "7"]


ATTACK = (
    "exec 2>/dev/null; try() { ls -l $1/fd/ > /dev/null && echo $2 fd; [ $(cat $1/environ | wc -c) != 0 ] && echo $2 environ;"
    " grep -q heap $1/maps && echo $2 maps; ls $1/root/ > /dev/null && echo $2 root; [ -d $1/root$HOST ] && echo $2 host; };"
    " sleep 7 & try /proc/$! own; for i in $(seq $TIMES); do for p in /proc/[0-9]*; do case $(cat $p/comm) in"
    " minipod*) try $p ours; echo met; exit 0;; esac; done; usleep 10000; done"
)


def attacked(node, step: str, *, times: int = 200, **spec: Any) -> str:
    """What a container's root with CAP_SYS_PTRACE finds out about itself, and about an exec that has come to *step*."""
    container = sleeper(securityContext={"capabilities": {"add": ["SYS_PTRACE"]}})
    found = node.containers(node.pod("trace", container, **spec))["app"]
    with parked_exec(node, found["id"], step):
        return node.exec(
            "trace",
            "sh",
            "-c",
            f"HOST={node.instance.state_dir}; TIMES={times}; {ATTACK}",
            check=False,
        )


@pytest.mark.smoke
@pytest.mark.parametrize("step", ["BecomeRoot", "Execve"])
def test_a_process_on_its_way_into_a_pod_can_not_be_traced_there(node, pods, step: str) -> None:
    """Before BecomeRoot it is the host's root, with a copy of the supervisor's memory."""
    pods.append("trace")
    said = attacked(node, step, hostUsers=False).split("\n")
    assert said == ["own fd", "own environ", "own maps", "own root", "met", ""]


@pytest.mark.parametrize(
    ("step", "seen"),
    [("JoinContainer", set()), ("JoinCgroupNamespace", {"ours maps", "ours root", "met"})],
)
def test_without_a_user_namespace_a_tracer_reaches_it(
    node, pods, step: str, seen: set[str]
) -> None:
    """Its capability counts everywhere then, and not being dumpable does not help (docs/user-namespaces.md says so). But
    what it sees is in the container already: /proc/PID/root is no way to the host's files."""
    pods.append("trace")
    found = set(attacked(node, step, times=200 if seen else 3).split("\n"))
    assert {word for word in found if not word.startswith("own")} - {
        "ours fd",
        "ours environ",
        "",
    } == seen


def test_a_pod_outlives_the_supervisor(node, pods) -> None:
    pods.append("stay")
    script = "echo begin; while [ ! -e /go ]; do usleep 20000; done; echo end; exit 42"
    shared = {"hostUsers": False, "shareProcessNamespace": True, "restartPolicy": "Never"}
    before = node.containers(node.pod("stay", shell(script, tty=True), sleeper("other"), **shared))
    old = node.status()["supervisor_pid"]
    kill_and_wait(old)
    await_other(node, "supervisor_pid", old)
    assert node.exec(
        "stay", "sh", "-c", "cut -c1-20 /proc/self/uid_map; id -u", container="other"
    ).split()[::2] == ["0", "0"]
    node.exec("stay", "touch", "/go", container="app", check=False)  # which may end first
    node.wait("stay", "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}=42")
    assert node.run("logs", "stay", "-c", "app").stdout.split() == ["begin", "end"]
    assert os.path.exists(f"/proc/{before['other']['pid']}/exe")


def test_ids_are_kept_over_restarts_and_given_to_nobody_else(node, pods) -> None:
    pods += ["first", "second"]
    restarting = shell(
        "while [ ! -e /v/stop ]; do usleep 20000; done; rm /v/stop",
        volumeMounts=[{"name": "v", "mountPath": "/v"}],
    )
    volume = {"volumes": [{"name": "v", "emptyDir": {}}]}
    node.pod("first", restarting, hostUsers=False, **volume)
    node.pod("second", sleeper(), hostUsers=False)
    before = {
        name: ids(node.containers(node.get(name))["app"]["pid"]) for name in ("first", "second")
    }
    assert before["first"].first != before["second"].first
    node.run("down", "--keep-pods")
    node.run("up")
    node.exec("first", "touch", "/v/stop", check=False)  # its container may end first
    node.wait("first", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    after = ids(node.containers(node.get("first"))["app"]["pid"])
    assert after == before["first"]
    assert node.exec("second", "stat", "-c", "%u", "/") == "0\n"


def test_a_mount_of_the_host_reaches_the_pod(node, pods, place) -> None:
    """HostToContainer; what is mounted there keeps its own owners. Sub-paths are inside of the volume."""
    pods.append("slave")
    (place / "a").mkdir()
    mounts = [
        {"name": "host", "mountPath": "/host", "mountPropagation": "HostToContainer"},
        {"name": "host", "mountPath": "/sub", "subPath": "a/b"},
    ]
    volume = [{"name": "host", "hostPath": {"path": str(place)}}]
    mount.mount(str(place), str(place), "", MountFlag.MS_BIND)
    mount.mount("", str(place), "", MountFlag.MS_SHARED)
    try:
        node.pod("slave", sleeper(volumeMounts=mounts), hostUsers=False, volumes=volume)
        mount.mount("late", str(place / "a"), "tmpfs", MountFlag(0), "mode=755")
        assert node.exec("slave", "stat", "-c", "%u", "/host", "/host/a", "/sub").split() == [
            "0",
            "65534",
            "0",
        ]
        assert stat.S_IMODE(os.stat(place / "a").st_mode) == 0o755
    finally:
        node.delete("slave")
        mount.umount2(str(place), UmountFlag.MNT_DETACH)


def test_a_kernel_that_gives_no_user_namespace_is_told_with_the_remedy() -> None:
    """Asked in a user namespace whose limit is 0: that of the machine is everybody's."""
    ours, theirs = sync.pair()
    ours.setblocking(True)
    child = os.fork()
    if child == 0:
        try:
            namespaces.unshare(CloneFlag.CLONE_NEWUSER)
            theirs.ready()
            theirs.await_go()
            Path("/proc/sys/user/max_user_namespaces").write_text("0", encoding="ascii")
            step = MakeUserNamespace(
                ids=UserNamespace(first=1), flags=CloneFlag(0), kinds=("user",)
            )
            run((step,), Context(sync=theirs, hierarchy=detect()), "")
        except sync.StepFailed as e:
            theirs.failed(e)
        finally:
            os._exit(1)
    try:
        sync.receive(ours)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text("0 0 65536", encoding="ascii")
        ours.send(b"go")
        said, _ = sync.receive(ours)
    finally:
        os.waitpid(child, 0)
        ours.close()
        theirs.close()
    assert said is not None
    assert said["errno"] == errno.ENOSPC
    assert "sysctl user.max_user_namespaces" in said["detail"]
    assert said["cause"] == "spec.hostUsers"
