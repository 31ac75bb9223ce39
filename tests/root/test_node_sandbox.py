"""The main job on the real kernel: what a pod's containers share, who reaches whom, what is limited."""

from __future__ import annotations

import os

import pytest

from tests.node import shell, sleeper

pytestmark = pytest.mark.smoke


def namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def test_containers_of_a_pod_share_net_ipc_uts_and_nothing_else(node, pods) -> None:
    pods.append("two")
    found = node.containers(node.pod("two", sleeper("a"), sleeper("b")))
    a, b = found["a"]["pid"], found["b"]["pid"]
    for kind in ("net", "ipc", "uts"):
        assert namespace(a, kind) == namespace(b, kind) != namespace(os.getpid(), kind)
    for kind in ("mnt", "pid", "cgroup"):
        assert namespace(a, kind) != namespace(b, kind)
        assert namespace(a, kind) != namespace(os.getpid(), kind)
    assert namespace(a, "user") == namespace(os.getpid(), "user")
    with open(f"/proc/{a}/cgroup", encoding="ascii") as f:
        paths = {line.strip().split(":", 2)[2] for line in f}
    assert all(
        "/kubepods/besteffort/pod" in path and path.endswith(found["a"]["id"]) for path in paths
    )


def test_inspect_shows_what_is_shared_and_limited(node, pods) -> None:
    pods.append("seen")
    node.pod(
        "seen", sleeper("a", resources={"limits": {"memory": "32Mi", "cpu": "250m"}}), sleeper("b")
    )
    text = node.run("inspect", "pod", "seen").stdout
    assert text.count("shared by the pod") == 3
    assert text.count("each its own") == 3
    assert "memory limit 32 MiB" in text or "memory limit 33554432" in text
    assert "cpu limit 0.25 cpu" in text or "cpu limit 25000 100000" in text


def test_a_container_pings_its_neighbour_its_name_another_pod_and_the_node(node, pods) -> None:
    pods += ["one", "other"]
    node.pod("one", sleeper())
    other = node.pod("other", sleeper())
    addresses = [a["ip"] for a in other["status"]["podIPs"]]
    assert len(addresses) == 2
    gateway = node.exec(
        "one", "sh", "-c", "ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'"
    ).strip()
    for target in ("localhost", "one", *addresses, gateway):
        assert "0% packet loss" in node.exec("one", "ping", "-c", "1", "-W", "2", target)


def test_nobody_takes_router_advertisements_from_a_pod(node, pods) -> None:
    """CVE-2020-10749: a pod must not become the node's, or another pod's, IPv6 router."""
    pods.append("ra")
    node.pod("ra", sleeper())
    with open(f"/proc/sys/net/ipv6/conf/{node.instance.bridge}/accept_ra", encoding="ascii") as f:
        assert f.read().strip() == "0"
    assert node.exec("ra", "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra").strip() == "0"


def test_a_container_sees_only_its_own_processes(node, pods) -> None:
    pods.append("alone")
    node.pod("alone", sleeper())
    listed = node.exec("alone", "sh", "-c", "ls /proc | grep -c '^[0-9]'")
    assert int(listed) <= 4  # sleep, sh, ls, grep


def test_both_containers_use_one_shared_memory(node, pods) -> None:
    pods.append("shm")
    node.pod("shm", sleeper("a"), sleeper("b"))
    node.exec("shm", "sh", "-c", "echo here > /dev/shm/x", container="a")
    assert node.exec("shm", "cat", "/dev/shm/x", container="b") == "here\n"


def test_a_container_beyond_its_memory_is_oomkilled(node, pods) -> None:
    pods.append("oom")
    hungry = shell("tail /dev/zero", resources={"limits": {"memory": "16Mi"}})
    node.pod("oom", hungry, wait="jsonpath={.status.phase}=Failed", restartPolicy="Never")
    ended = node.state("oom")["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_a_process_limit_written_in_the_cgroup_holds(node, pods) -> None:
    """Excluded: podPidsLimit, which is a setting of the node and not of a pod."""
    pods.append("cpu")
    found = node.containers(
        node.pod("cpu", sleeper(resources={"limits": {"cpu": "250m", "memory": "32Mi"}}))
    )
    text = node.exec(
        "cpu",
        "sh",
        "-c",
        "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null",
        check=False,
    )
    assert text.split()[0] == "25000"
    assert found["app"]["cgroup"].startswith(node.instance.cgroup_root)


def test_devices_other_than_the_usual_are_denied(node, pods) -> None:
    pods.append("dev")
    node.pod("dev", sleeper())
    done = node.run("exec", "dev", "--", "sh", "-c", "mknod /kmsg c 1 11; cat /kmsg", check=False)
    assert "not permitted" in done.stderr.lower()
    assert node.exec("dev", "sh", "-c", "mknod /n c 1 3 && echo x > /n && echo fine") == "fine\n"


def test_host_network_is_the_nodes(node, pods) -> None:
    pods.append("host")
    found = node.containers(node.pod("host", sleeper(), hostNetwork=True))
    assert namespace(found["app"]["pid"], "net") == namespace(os.getpid(), "net")
    assert namespace(found["app"]["pid"], "ipc") != namespace(os.getpid(), "ipc")


def test_a_volume_of_the_whole_node_can_be_mounted(node, pods) -> None:
    """As kubectl debug node/NAME asks for it: our own pins below /run must not stand in the way."""
    pods.append("whole")
    volume = {"name": "host", "hostPath": {"path": "/"}}
    mounted = [{"name": "host", "mountPath": "/host"}]
    node.pod("whole", sleeper(volumeMounts=mounted), volumes=[volume])
    inode = node.exec("whole", "stat", "-c", "%i", "/host/etc/passwd").strip()
    assert inode == str(os.stat("/etc/passwd").st_ino)
