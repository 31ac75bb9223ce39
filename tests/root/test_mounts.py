"""How a volume is mounted: parts of it that no symlink leads out of, read-only to its depth, mounts that come and go."""

from __future__ import annotations

import ctypes
import os
import threading

import pytest

from minipod.init.vault import make_vault
from minipod.linux import mount, namespaces
from minipod.linux.flags import CloneFlag, MountFlag, UmountFlag
from tests.node import eventually, shell, sleeper


def host(path: object, **more: object) -> list[dict[str, object]]:
    return [{"name": "v", "hostPath": {"path": str(path), **more}}]


def mounting(**more: object) -> dict[str, object]:
    return {"volumeMounts": [{"name": "v", "mountPath": "/v", **more}]}


@pytest.mark.smoke
def test_a_part_of_a_volume_by_name_and_by_expression(node, pods) -> None:
    pods.append("sub")
    container = sleeper(
        env=[{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        volumeMounts=[
            {"name": "v", "mountPath": "/a", "subPath": "deep/er"},
            {"name": "v", "mountPath": "/b", "subPathExpr": "of-$(POD)"},
            {"name": "v", "mountPath": "/all"},
        ],
    )
    node.pod("sub", container, volumes=[{"name": "v", "emptyDir": {}}])
    node.exec("sub", "sh", "-c", "touch /a/x /b/y")
    assert node.exec("sub", "sh", "-c", "cd /all; find . -type f | sort").split() == [
        "./deep/er/x",
        "./of-sub/y",
    ]
    assert node.exec("sub", "stat", "-c", "%a", "/all/deep/er") == "777\n"  # the volume's own mode


def test_an_expression_with_an_unknown_variable_is_refused(node, pods) -> None:
    pods.append("expr")
    reason = (
        "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError"
    )
    node.pod(
        "expr",
        sleeper(**mounting(subPathExpr="$(NO)")),
        volumes=[{"name": "v", "emptyDir": {}}],
        wait=reason,
    )
    assert "missing value for 'NO'" in node.state("expr")["waiting"]["message"]


def tried(status: dict[str, object]) -> bool:
    """Whether a start was tried: it runs, or the link led nowhere in the volume."""
    state = status.get("state") or {}
    waiting = (state.get("waiting") or {}).get("reason", "ContainerCreating")
    return "running" in state or waiting != "ContainerCreating"


def test_a_symlink_in_a_volume_leads_nowhere_else(node, pods, tmp_path) -> None:
    """CVE-2017-1002101: the link is resolved inside the volume, where there is no such directory."""
    pods.append("link")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "up").symlink_to("../../../../etc")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/mine").touch()
    container = sleeper(volumeMounts=[
        {"name": "v", "mountPath": "/a", "subPath": "out"}, {"name": "v", "mountPath": "/b", "subPath": "up"},
    ])  # fmt: skip
    node.pod("link", container, volumes=host(tmp_path))
    assert node.exec("link", "ls", "/a", "/b").split() == ["/a:", "mine", "/b:", "mine"]


def test_a_symlink_that_changes_while_pods_start_never_leads_out(node, pods, tmp_path) -> None:
    """CVE-2021-25741: another container exchanges directory and symlink in a loop while mounts are made."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/inside").touch()
    (tmp_path / "link").symlink_to("/etc")
    stop = threading.Event()

    def exchange() -> None:
        a, b = str(tmp_path / "sub"), str(tmp_path / "tmp")
        os.rename(tmp_path / "dir", a)
        os.rename(tmp_path / "link", b)
        libc = ctypes.CDLL(None)
        while not stop.is_set():
            libc.renameat2(-100, a.encode(), -100, b.encode(), 2)  # AT_FDCWD, RENAME_EXCHANGE

    racer = threading.Thread(target=exchange)
    racer.start()
    try:
        containers = [
            sleeper(f"c{i}", volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "sub"}])
            for i in range(8)
        ]
        pods.append("race")
        node.pod("race", *containers, volumes=host(tmp_path), wait="")

        def all_tried() -> bool:
            listed = node.get("race")["status"].get("containerStatuses") or [{}]
            return all(tried(c) for c in listed)

        eventually(all_tried)
        found = node.containers(node.get("race")).values()
        assert any(container["pid"] for container in found)
        for container in found:
            if container["pid"]:
                assert "passwd" not in os.listdir(f"/proc/{container['pid']}/root/v")
    finally:
        stop.set()
        racer.join()


def test_read_only_to_its_depth_or_only_at_its_top(node, pods, tmp_path) -> None:
    pods += ["deep", "flat"]
    (tmp_path / "inner").mkdir()
    mount.mount("inner", str(tmp_path / "inner"), "tmpfs", MountFlag(0), "")
    try:
        write = (
            "touch /v/x 2>/dev/null && echo top; touch /v/inner/x 2>/dev/null && echo inner; true"
        )
        node.pod(
            "deep",
            sleeper(**mounting(readOnly=True, recursiveReadOnly="Enabled")),
            volumes=host(tmp_path),
        )
        assert node.exec("deep", "sh", "-c", write) == ""
        node.pod("flat", sleeper(**mounting(readOnly=True)), volumes=host(tmp_path))
        assert node.exec("flat", "sh", "-c", write) == "inner\n"
        node.delete("deep", "flat")
    finally:
        mount.umount2(str(tmp_path / "inner"), UmountFlag.MNT_DETACH)


def test_mounts_come_from_the_host_and_go_to_it_where_asked(node, pods, tmp_path) -> None:
    pods += ["none", "slave", "shared"]
    base = str(tmp_path)
    mount.mount(base, base, "", MountFlag.MS_BIND)
    mount.mount("", base, "", MountFlag.MS_SHARED)
    os.mkdir(f"{base}/late")
    os.mkdir(f"{base}/own")
    try:
        privileged = {"securityContext": {"privileged": True}}
        node.pod("none", sleeper(**mounting()), volumes=host(base))
        node.pod(
            "slave", sleeper(**mounting(mountPropagation="HostToContainer")), volumes=host(base)
        )
        node.pod(
            "shared",
            shell("exec sleep 1000", **mounting(mountPropagation="Bidirectional"), **privileged),
            volumes=host(base),
        )
        mount.mount("late", f"{base}/late", "tmpfs", MountFlag(0), "")
        seen = {
            pod: node.exec(pod, "sh", "-c", "grep -c /v/late /proc/mounts; true").strip()
            for pod in pods
        }
        assert seen == {"none": "0", "slave": "1", "shared": "1"}
        node.exec("shared", "mount", "-t", "tmpfs", "own", "/v/own")
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            assert f" {base}/own " in f.read()
        node.exec("shared", "umount", "/v/own")
        node.delete(*pods)
    finally:
        mount.umount2(f"{base}/late", UmountFlag.MNT_DETACH)
        mount.umount2(base, UmountFlag.MNT_DETACH)


CPUS = sorted(os.sched_getaffinity(0))[:2]


@pytest.mark.parametrize("later", CPUS)
@pytest.mark.parametrize("first", CPUS)
def test_a_node_in_a_young_mount_namespace_gets_its_vault(tmp_path, first: int, later: int) -> None:
    """Newer kernels number namespaces for each CPU apart, and pin none with a lower number than that of who pins it."""
    if (child := os.fork()) == 0:
        try:
            os.sched_setaffinity(0, {first})
            namespaces.unshare(CloneFlag.CLONE_NEWNS)
            os.sched_setaffinity(0, {later})
            mount.mount("", "/", "", MountFlag.MS_REC | MountFlag.MS_PRIVATE)
            mount.mount("here", str(tmp_path), "tmpfs", MountFlag(0))
            os.mkdir(f"{tmp_path}/stage")
            make_vault(f"{tmp_path}/vault", f"{tmp_path}/stage")
            vault = os.open(f"{tmp_path}/vault", os.O_RDONLY)
            namespaces.setns(vault, CloneFlag.CLONE_NEWNS)  # it is one
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_standard_mounts_leave_nothing_in_a_containers_own_layer(node, pods) -> None:
    """Hosts, hostname, resolv.conf and the token: their places are in a layer below the image's (`runtime.mountpoints`)."""
    pods.append("points")
    pod = node.pod("points", sleeper())
    container = node.containers(pod)["app"]["id"]
    upper = f"{node.instance.state_dir}/containers/{container}/upper"
    shown = node.exec(
        "points", "cat", "/etc/hostname", "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
    )
    assert shown.split() == ["points", "default"]
    assert os.listdir(upper) == []
    node.exec("points", "sh", "-c", "touch /etc/x && rm -r /var/tmp")
    assert sorted(os.listdir(upper)) == ["etc", "var"]
