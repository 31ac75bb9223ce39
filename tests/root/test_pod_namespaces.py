"""What a pod may share and with whom: one pid namespace, the host's pid and ipc, its names, its sysctls."""

from __future__ import annotations

import os
import signal

import pytest

from minipod.linux import apparmor
from tests.node import eventually, shell, sleeper
from tests.root.test_node_adoption import await_other, kill_and_wait


def namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def host_pid_of_init(pid: int) -> int:
    """Return pid 1 of the namespace that *pid* is in, as the host counts."""
    wanted = namespace(pid, "pid")
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and namespace(int(name), "pid") == wanted:
                with open(f"/proc/{name}/status", encoding="ascii") as f:
                    numbers = next(line for line in f if line.startswith("NSpid:")).split()
                if numbers[-1] == "1":
                    return int(name)
        except OSError:
            continue  # it ended meanwhile
    raise AssertionError("no pid 1")


@pytest.mark.smoke
def test_containers_that_share_a_pid_namespace_see_each_other_below_a_tiny_init(node, pods) -> None:
    """Excluded: what a container without shareProcessNamespace sees (test_node_sandbox)."""
    pods.append("share")
    made = node.pod("share", sleeper("a"), sleeper("b"), shareProcessNamespace=True)
    found = node.containers(made)
    a, b = found["a"]["pid"], found["b"]["pid"]
    assert namespace(a, "pid") == namespace(b, "pid") != namespace(os.getpid(), "pid")
    listed = node.exec("share", "ps", container="a")
    assert listed.count("sleep 1000") == 2
    init = host_pid_of_init(a)
    with open(f"/proc/{init}/status", encoding="ascii") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    assert int(status["VmRSS"].split()[0]) < 100  # kB
    assert status["CapEff"] == status["CapBnd"] == "0" * 16
    assert status["Uid"].split()[0] == "65535"
    assert os.listdir(f"/proc/{init}/root") != os.listdir("/")


def test_the_shared_init_reaps_orphans(node, pods) -> None:
    pods.append("reap")
    node.pod("reap", sleeper(), shareProcessNamespace=True)
    node.exec("reap", "sh", "-c", "(sh -c 'sleep 0.1 & exit' &) ; sleep 0.3")
    eventually(lambda: " Z " not in node.exec("reap", "sh", "-c", "cat /proc/[0-9]*/stat; true"))


def test_a_pod_whose_shared_init_dies_gets_a_new_sandbox(node, pods) -> None:
    pods.append("again")
    made = node.pod("again", sleeper(), shareProcessNamespace=True)
    old = node.containers(made)["app"]
    init = host_pid_of_init(old["pid"])
    os.kill(init, signal.SIGKILL)
    node.wait("again", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    node.wait("again", "condition=Ready")
    new = node.containers(node.get("again"))["app"]
    assert host_pid_of_init(new["pid"]) not in (init, new["pid"])


def test_host_pid_and_host_ipc_are_the_hosts(node, pods) -> None:
    pods.append("hostns")
    made = node.pod("hostns", sleeper(), hostPID=True, hostIPC=True)
    pid = node.containers(made)["app"]["pid"]
    assert namespace(pid, "pid") == namespace(os.getpid(), "pid")
    assert namespace(pid, "ipc") == namespace(os.getpid(), "ipc")
    name = f"minipod-test-{os.getpid()}"
    with open(f"/dev/shm/{name}", "w", encoding="ascii") as f:
        f.write("host\n")
    try:
        assert node.exec("hostns", "cat", f"/dev/shm/{name}") == "host\n"
    finally:
        os.unlink(f"/dev/shm/{name}")
    assert f"\n{os.getpid()} " in node.exec("hostns", "sh", "-c", "ps -o pid,comm | sed 's/^ *//'")


def test_a_full_name_is_the_kernels_when_asked_for(node, pods) -> None:
    pods += ["full", "toolong"]
    node.pod("full", sleeper(), hostname="web", subdomain="site", setHostnameAsFQDN=True)
    wanted = "web.site.default.svc.cluster.local"
    assert node.exec("full", "hostname").strip() == wanted
    assert node.exec("full", "sh", "-c", "echo $HOSTNAME").strip() == wanted
    assert f"{wanted}\tweb" in node.exec("full", "cat", "/etc/hosts")
    node.pod(
        "toolong", sleeper(), wait="", hostname="a" * 60, subdomain="b", setHostnameAsFQDN=True
    )
    text = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ContainerCreating"
    node.wait("toolong", text)
    node.await_event("toolong", words="is too long (64 characters is the max")


def test_safe_sysctls_are_set_and_others_refused(node, pods) -> None:
    pods += ["sysctl", "unsafe"]
    safe = [
        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"},
        {"name": "kernel.shm_rmid_forced", "value": "1"},
    ]
    node.pod("sysctl", sleeper(), securityContext={"sysctls": safe})
    text = node.exec(
        "sysctl", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shm_rmid_forced"
    )  # fmt: skip
    assert text.split() == ["80", "1"]
    node.pod(
        "unsafe", sleeper(), wait="jsonpath={.status.phase}=Failed",
        securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]},
    )  # fmt: skip
    status = node.get("unsafe")["status"]
    assert status["reason"] == "SysctlForbidden"
    assert (
        status["message"] == 'Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted'
    )


def test_a_pod_that_the_node_can_not_hold_is_failed(node, pods) -> None:
    pods += ["big", "gpu", "armor"]
    failed = "jsonpath={.status.phase}=Failed"
    node.pod("big", sleeper(resources={"requests": {"cpu": "1000"}}), wait=failed)
    status = node.get("big")["status"]
    assert status["reason"] == "OutOfcpu"
    assert "Node didn't have enough resource: cpu, requested: 1000000, used: " in status["message"]
    assert "containerStatuses" not in status
    assert node.run("get", "pod", "big", "--no-headers").stdout.split()[1:3] == ["0/1", "OutOfcpu"]
    node.pod("gpu", sleeper(resources={"limits": {"nvidia.com/gpu": "1"}}), wait=failed)
    assert node.get("gpu")["status"]["reason"] == "OutOfnvidia.com/gpu"
    if apparmor.enabled():  # tests/root/test_apparmor.py
        return
    profile = {"appArmorProfile": {"type": "RuntimeDefault"}}
    node.pod("armor", sleeper(securityContext=profile), wait=failed)
    assert node.get("armor")["status"]["reason"] == "AppArmor"


def test_etc_hostname_says_what_hostname_says(node, pods) -> None:
    """As containerd and CRI-O write it: programs read the file. In the node's network it is the node's name."""
    pods += ["named", "ofnode"]
    node.pod("named", sleeper("a"), sleeper("b"), hostname="web", subdomain="site")
    node.pod("ofnode", sleeper(), hostNetwork=True)
    for container in ("a", "b"):
        assert node.exec("named", "cat", "/etc/hostname", container=container) == "web\n"
    listed = node.client.request("GET", "/api/v1/nodes")["items"]
    assert node.exec("ofnode", "cat", "/etc/hostname").strip() == listed[0]["metadata"]["name"]


def test_aliases_and_a_resolver_of_the_pods_own(node, pods) -> None:
    pods.append("dns")
    node.pod(
        "dns", shell("exec sleep 1000"),
        dnsPolicy="None",
        dnsConfig={
            "nameservers": ["10.1.2.3"], "searches": ["a.example"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
        },
        hostAliases=[{"ip": "10.9.8.7", "hostnames": ["one", "two"]}],
    )  # fmt: skip
    text = node.exec("dns", "cat", "/etc/resolv.conf")
    assert text == "search a.example\nnameserver 10.1.2.3\noptions ndots:2 edns0\n"
    assert "\n# Entries added by HostAliases.\n10.9.8.7\tone\ttwo\n" in node.exec(
        "dns", "cat", "/etc/hosts"
    )


def test_a_shared_pid_namespace_survives_the_supervisor_and_a_new_container_joins_it(
    node, pods
) -> None:
    """The pod's pid 1 is adopted like a container."""
    pods.append("adopt")
    made = node.pod(
        "adopt", sleeper("a"), shell("sleep 1000; exit 1", "b"), shareProcessNamespace=True
    )
    before = node.containers(made)
    init = host_pid_of_init(before["a"]["pid"])
    old = node.status()["supervisor_pid"]
    kill_and_wait(old)
    await_other(node, "supervisor_pid", old)
    os.kill(before["b"]["pid"], signal.SIGKILL)
    wait = "jsonpath={.status.containerStatuses[1].restartCount}=1"
    node.wait("adopt", wait)
    node.wait("adopt", "condition=Ready")
    after = node.containers(node.get("adopt"))
    assert after["a"]["pid"] == before["a"]["pid"]
    assert host_pid_of_init(after["b"]["pid"]) == init
    node.run("delete", "pod", "adopt", "--grace-period=1")
    assert not os.path.exists(f"/proc/{init}/exe")


def test_a_link_goes_with_its_pod_whoever_holds_the_namespace(node, pods) -> None:
    """As the kernel does for a socket of a killed process that has not sent everything: the address may be another pod's by then."""
    pods.append("held")
    pod = node.pod("held", sleeper())
    pid = node.containers(pod)["app"]["pid"]
    made = node.client.request("GET", f"/minipod/pods/{pod['metadata']['uid']}")["sandboxes"][0]
    link = f"/sys/class/net/{node.instance.link_prefix}{made['id'][:8]}"
    assert os.path.exists(link)
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        node.delete("held")
        eventually(lambda: not os.path.exists(link))
    finally:
        os.close(namespace)
