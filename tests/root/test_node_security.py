"""What a container may not do, and what must not leak into it."""

from __future__ import annotations

import hashlib
import os
import resource
import sys

import pytest

from minipod.image import build
from minipod.image.store import ImageStore
from minipod.supervisor import sealing
from tests.node import eventually, shell, sleeper
from tests.parked import parked_exec


@pytest.fixture
def hostile(node, tmp_path):
    """An image with a copy of every stdlib module that leaves a mark when it is imported."""
    code = "open('/IMPORTED', 'w').write(__name__)\\nraise SystemExit(77)\\n"
    names = sorted(sys.stdlib_module_names)
    paths = [f"/usr/lib/python3.11/{n}.py" for n in names]
    paths += [
        f"/usr/lib/python3.11/encodings/{n}.py"
        for n in ("__init__", "utf_8", "latin_1", "ascii", "idna")
    ]
    here = os.path.dirname(os.path.dirname(build.__file__))
    paths += [f"{here}/linux/{n}.py" for n in ("credentials", "seccomp", "mount")]
    recipe = (
        'tags = ["hostile:1"]\npackages = ["busybox-static"]\nbusybox = "/bin/busybox"\n[files]\n'
    )
    recipe += "".join(f'"{p}" = "{code}"\n' for p in paths)
    (tmp_path / "recipe.toml").write_text(recipe)
    store = ImageStore(f"{node.instance.state_dir}/images")
    build.build(str(tmp_path), store)
    return "hostile:1"


def import_in(pid: int, module: str) -> int:
    """What a naive child would do: import from inside a container's root. Returns its exit code."""
    if (child := os.fork()) == 0:
        os.chroot(f"/proc/{pid}/root")
        sys.modules.pop(module, None)
        sys.path[:] = ["/usr/lib/python3.11"]
        sys.path_importer_cache.clear()
        try:
            __import__(module)
        except SystemExit as e:
            os._exit(e.code)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_nothing_of_the_image_is_ever_imported(node, pods, hostile: str) -> None:
    """Start, exec, a failing exec, a failing start, a missing working directory: each takes another error path."""
    pods += ["h", "hbad", "hdir"]
    node.pod("h", sleeper(image=hostile))
    node.exec("h", "true")
    node.exec("h", "nosuch", check=False)
    node.pod(
        "hbad", {"name": "app", "image": hostile, "command": ["nosuch"]},
        wait="jsonpath={.status.phase}=Failed", restartPolicy="Never",
    )  # fmt: skip
    node.pod("hdir", sleeper(image=hostile, workingDir="/a/b", securityContext={"runAsUser": 1000}))
    assert node.exec("h", "ls", "/").count("IMPORTED") == 0
    directory = f"{node.instance.state_dir}/containers"
    for container in os.listdir(directory):
        assert "IMPORTED" not in os.listdir(f"{directory}/{container}/upper")
    assert not os.path.exists("/IMPORTED")
    # The trap is a real one: an import from the root does run its code.
    assert import_in(node.containers(node.get("h"))["app"]["pid"], "wave") == 77
    assert "IMPORTED" in node.exec("h", "ls", "/")


@pytest.mark.parametrize("link", ["proc", "sys"])
def test_an_image_whose_proc_is_a_symlink_is_refused(node, pods, tmp_path, link: str) -> None:
    """CVE-2019-19921: the masks would be put elsewhere."""
    pods.append("link")
    (tmp_path / "recipe.toml").write_text(
        'tags = ["link:1"]\npackages = ["busybox-static"]\nbusybox = "/bin/busybox"\n'
        f'[symlinks]\n"/{link}" = "/bin"\n'
    )
    build.build(str(tmp_path), ImageStore(f"{node.instance.state_dir}/images"))
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerError"
    node.pod("link", sleeper(image="link:1"), wait=reason)
    message = node.state("link")["waiting"]["message"]
    assert f"at /{link}" in message
    assert "symbolic links" in message


def test_a_supervisor_is_executed_from_its_read_only_interpreter_at_once(node) -> None:
    """Under systemd with cgroup v2 it executes itself a second time: that is tested in the VMs."""
    pid = node.status()["supervisor_pid"]
    with open(f"/proc/{pid}/environ", "rb") as f:  # as it was executed
        environment = f.read().split(b"\0")
    assert f"{sealing.SEALED}=1".encode() in environment
    assert f"{sealing.TUNABLES}={sealing.NO_RSEQ}".encode() in environment
    for process in (pid, node.status()["pid"]):  # the daemon is its fork
        with open(f"/proc/{process}/exe", "rb") as f:
            assert os.fstatvfs(f.fileno()).f_flag & os.ST_RDONLY


def test_the_interpreter_can_not_be_written_from_a_container(node, pods) -> None:
    """CVE-2019-5736: a process of ours on its way into a container, met by a hostile process there."""
    interpreter = os.path.realpath(sys.executable)
    with open(interpreter, "rb") as f:
        before = hashlib.sha256(f.read()).hexdigest()
    with pytest.raises(OSError, match=r"Read-only file system|Text file busy"):
        open(f"/proc/{node.status()['supervisor_pid']}/exe", "r+b")  # noqa: SIM115 it must fail
    pods.append("exe")
    node.pod("exe", sleeper(securityContext={"privileged": True}))
    container = node.containers(node.get("exe"))["app"]
    with parked_exec(node, container["id"], "Execve"):
        attack = (
            "for i in $(seq 500); do for p in /proc/[0-9]*; do case $(cat $p/comm) in minipod*)"
            " echo met; (echo x >> $p/exe) 2>&1; exit 0;; esac; done; usleep 10000; done"
        )
        seen = node.exec("exe", "sh", "-c", attack, check=False)
    assert "met" in seen
    assert "Read-only file system" in seen or "Text file busy" in seen
    with open(interpreter, "rb") as f:
        assert hashlib.sha256(f.read()).hexdigest() == before


@pytest.mark.parametrize("users", [True, False])
def test_an_exec_is_seen_in_its_container_only_when_it_has_left_the_host(node, pods, users) -> None:
    """/proc/PID/net and mountinfo are for everybody who sees the process: the node's connections and mounts were."""
    pods.append("watch")
    context = {"runAsUser": 1000, "capabilities": {"drop": ["ALL"]}}
    found = node.containers(node.pod("watch", sleeper(securityContext=context), hostUsers=users))
    look = (
        "for i in $(seq $0); do for p in /proc/[0-9]*; do case $(cat $p/comm) in minipod*) cat $p/net/dev | grep -c :;"
        " wc -l < $p/mountinfo; exit;; esac; done 2>/dev/null; usleep 10000; done; echo unseen"
    )
    own = node.exec(
        "watch", "sh", "-c", "grep -c : /proc/self/net/dev; wc -l < /proc/self/mountinfo"
    )
    for step, times, wanted in (
        ("EnterCgroup", "3", "unseen\n"),
        ("JoinContainer", "3", "unseen\n"),
        ("JoinCgroupNamespace", "200", own),
    ):
        with parked_exec(node, found["app"]["id"], step):
            assert node.exec("watch", "sh", "-c", look, times) == wanted


def test_nothing_of_ours_leaks_into_a_container(node, pods) -> None:
    pods.append("clean")
    node.pod("clean", shell("exec sleep 1000"))
    pid = node.containers(node.get("clean"))["app"]["pid"]
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    assert status["SigBlk"] == status["SigIgn"] == "0" * 16
    assert status["Umask"] == "0022"
    assert status["CapEff"] == status["CapPrm"] == status["CapBnd"] == "00000000a80425fb"
    assert status["CapInh"] == status["CapAmb"] == "0" * 16
    assert status["Seccomp"] == "2"
    assert status["Groups"].strip() == "0"
    environment = node.exec("clean", "env")
    assert "MINIPOD" not in environment
    assert "PYTHON" not in environment


def test_a_user_without_root_has_no_capability(node, pods) -> None:
    pods.append("user")
    node.pod("user", sleeper(securityContext={
        "runAsUser": 1000, "runAsGroup": 1000, "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }))  # fmt: skip
    text = node.exec("user", "grep", "-E", "Cap|NoNewPrivs|Uid", "/proc/self/status")
    assert text.count("0000000000000000") == 5
    assert "NoNewPrivs:\t1" in text
    assert "1000" in text
    assert "Read-only" in node.run("exec", "user", "--", "touch", "/x", check=False).stderr


def test_a_volume_does_not_lead_out_of_itself(node, pods, tmp_path) -> None:
    """A symlink at the subPath must not reach the host (CVE-2017-1002101)."""
    pods.append("sub")
    (tmp_path / "out").symlink_to("/etc")
    mount = {"name": "v", "mountPath": "/v", "subPath": "out"}
    node.pod(
        "sub", sleeper(volumeMounts=[mount]), wait="",
        volumes=[{"name": "v", "hostPath": {"path": str(tmp_path)}}], restartPolicy="Never",
    )  # fmt: skip
    path = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
    node.wait("sub", f"{path}=CreateContainerError")


def planted(*links: str) -> dict[str, object]:
    """An init container that leaves links ("TARGET NAME") in the volume that the app has at /dev."""
    script = "cd /v; mkdir pts shm mqueue" + "".join(f"; ln -s {link}" for link in links)
    mounts = [{"name": "v", "mountPath": "/v"}]
    return {**shell(script, name="plant", volumeMounts=mounts), "image": "busybox:1.36"}


def test_a_planted_null_is_never_bound_over_a_masked_path(node, pods) -> None:
    """CVE-2025-31133: /dev/null of a volume at /dev was a link to core_pattern, which was then writable at a masked path."""
    pods.append("null")
    app = shell(
        "grep -E ' /proc/(keys|timer_list|kcore) ' /proc/self/mountinfo; sleep 1000",
        stdin=True, volumeMounts=[{"name": "v", "mountPath": "/dev"}],
    )  # fmt: skip
    plant = planted("/proc/sys/kernel/core_pattern null")
    node.pod("null", app, initContainers=[plant], volumes=[{"name": "v", "emptyDir": {}}])
    masks = eventually(lambda: node.log("null"))
    assert "core_pattern" not in masks
    assert all("/null /proc/" in line for line in masks.splitlines())


def test_a_planted_console_is_not_followed(node, pods) -> None:
    """CVE-2025-52565: the pty would have been mounted over the link's target."""
    pods.append("console")
    mounts = [{"name": "v", "mountPath": "/dev"}, {"name": "pts", "mountPath": "/dev/pts"}]
    app = sleeper(tty=True, volumeMounts=mounts)
    plant = planted("pts/ptmx ptmx", "/proc/uptime console")
    volumes = [{"name": "v", "emptyDir": {}}, {"name": "pts", "hostPath": {"path": "/dev/pts"}}]
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerError"
    node.pod("console", app, initContainers=[plant], volumes=volumes, wait=reason)
    assert "/dev/console" in node.state("console")["waiting"]["message"]


@pytest.mark.parametrize("at", ["/proc/sys/kernel", "/proc", "/link/attr"])
def test_no_volume_is_mounted_into_proc(node, pods, tmp_path, at: str) -> None:
    """CVE-2019-16884: by name, or by a link of the image's."""
    pods.append("proc")
    (tmp_path / "recipe.toml").write_text(
        'tags = ["inproc:1"]\npackages = ["busybox-static"]\nbusybox = "/bin/busybox"\n'
        '[symlinks]\n"/link" = "/proc/self"\n'
    )
    build.build(str(tmp_path), ImageStore(f"{node.instance.state_dir}/images"))
    app = sleeper(image="inproc:1", volumeMounts=[{"name": "v", "mountPath": at}])
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerError"
    node.pod("proc", app, volumes=[{"name": "v", "emptyDir": {}}], wait=reason)
    assert f"at {at} private: it is inside of /proc" in node.state("proc")["waiting"]["message"]


def test_the_hosts_proc_may_take_the_place_of_the_containers(node, pods) -> None:
    """What monitors of a node do; so may a file of lxcfs'."""
    pods.append("host")
    volumes = [
        {"name": "p", "hostPath": {"path": "/proc"}}, {"name": "f", "hostPath": {"path": "/etc/hostname"}},
    ]  # fmt: skip
    mounts = [{"name": "p", "mountPath": "/proc"}, {"name": "f", "mountPath": "/proc/uptime"}]
    node.pod("host", sleeper(volumeMounts=mounts), volumes=volumes)
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        assert node.exec("host", "cat", "/proc/sys/kernel/random/boot_id") == f.read()
    with open("/etc/hostname", encoding="utf-8") as f:
        assert node.exec("host", "cat", "/proc/uptime") == f.read()


def open_files(pid: int) -> list[str]:
    """Soft and hard limit."""
    with open(f"/proc/{pid}/limits", encoding="ascii") as f:
        return next(line for line in f if line.startswith("Max open files")).split()[3:5]


def test_the_supervisors_raised_limit_is_not_its_containers(node, pods) -> None:
    """It needs three descriptors for each container, and a shell gives 1024; a container has what the node was started with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    node.run("down")
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        node.run("up")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert open_files(node.status()["supervisor_pid"]) == [str(hard), str(hard)]
    pods.append("limits")
    pid = node.containers(node.pod("limits", sleeper()))["app"]["pid"]
    assert open_files(pid) == ["256", str(hard)]
    assert node.exec("limits", "sh", "-c", "ulimit -Sn").strip() == "256"
