"""Sandboxes that are made before a pod asks: who gets one is as well off as who has his own made, and nobody's are left behind."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from minipod.spec.instance import Instance
from tests.node import Node, eventually, prepared, shell, sleeper, started
from tests.root.conftest import INSTANCE

SIZE = Instance().prepared_sandboxes


def waiting(node: Node) -> set[str]:
    """Return those that wait, once there are as many as the node keeps, each with its link."""

    def found() -> set[str]:
        ids = prepared(node.instance)
        whole = len(ids) == SIZE and all(os.path.exists(link(node, i)) for i in ids)
        return ids if whole else set()

    return eventually(found)


def link(node: Node, sandbox: str) -> str:
    return f"/sys/class/net/{node.instance.link_prefix}{sandbox[:8]}"


def sandbox(node: Node, pod: dict) -> dict:
    """Return what the runtime says of a pod's sandbox."""
    return node.client.request("GET", f"/minipod/pods/{pod['metadata']['uid']}")["sandboxes"][0]


def leases(node: Node) -> dict[str, str]:
    """Return who has which address."""
    directory = f"{node.instance.run_dir}/leases"
    return {name: os.readlink(f"{directory}/{name}") for name in os.listdir(directory)}


def nothing_is_left(node: Node) -> bool:
    return node.run("doctor", "--leaks", check=False).stdout == "nothing is left behind\n"


def test_a_pod_takes_one_and_another_follows(node, pods) -> None:
    """Its name, its address, its limits and its ports of the node are the pod's, its namespaces those that waited."""
    pods.append("taker")
    before = waiting(node)
    pod = node.pod(
        "taker",
        shell(
            "while :; do echo hello | nc -l -p 8080; done",
            resources={"limits": {"memory": "32Mi"}},
            ports=[{"containerPort": 8080, "hostPort": 38080}],
        ),
        hostname="named",
    )
    mine = sandbox(node, pod)
    assert mine["id"] in before
    assert leases(node)[pod["status"]["podIP"]] == mine["id"]
    assert node.exec("taker", "hostname") == "named\n"
    assert pod["status"]["podIP"] in node.exec("taker", "ip", "addr", "show", "eth0")
    assert "default via" in node.exec("taker", "ip", "route")
    pid = node.containers(pod)["app"]["pid"]
    numbers = {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "uts", "ipc")}
    assert numbers == dict(mine["namespaces"])
    assert eventually(lambda: answer(pod["status"]["podIP"], 8080)) == b"hello\n"
    assert eventually(lambda: answer(node.instance.gateways[0], 38080)) == b"hello\n"
    after = waiting(node)
    assert mine["id"] not in after
    assert before - {mine["id"]} < after
    assert nothing_is_left(node)


def answer(address: str, port: int) -> bytes:
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            return connection.recv(100)
    except OSError:
        return b""


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"hostNetwork": True}, id="the node's network"),
        pytest.param({"hostIPC": True}, id="the node's ipc"),
        pytest.param({"hostUsers": False}, id="a user namespace"),
        pytest.param(
            {"securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "1"}]}},
            id="a sysctl",
        ),
        pytest.param({"annotations": {"kubernetes.io/egress-bandwidth": "10M"}}, id="a shaped link"),
    ],
)  # fmt: skip
def test_who_wants_other_namespaces_has_them_made(node, pods, spec: dict) -> None:
    pods.append("other")
    before = waiting(node)
    pod = node.pod("other", sleeper(), **spec)
    assert sandbox(node, pod)["id"] not in before
    assert prepared(node.instance) == before


def test_more_pods_at_once_than_wait(node, pods) -> None:
    """Those for whom none is left have theirs made; each has an address of its own."""
    names = [f"many{n}" for n in range(2 * SIZE + 1)]
    pods.extend(names)
    waiting(node)
    for name in names:
        node.pod(name, sleeper(), wait="")
    for name in names:
        node.wait(name, "condition=Ready")
    assert len({node.get(name)["status"]["podIP"] for name in names}) == len(names)


@pytest.mark.parametrize("whom", ["daemon", "supervisor"])
def test_a_kill_leaves_none_behind(node, pods, whom: str) -> None:
    """The next daemon undoes what the killed one had prepared; those that wait when a supervisor dies are whole, and stay."""
    pods.append("living")
    node.pod("living", sleeper())
    before = waiting(node)
    status = node.status()
    pid = status["pid" if whom == "daemon" else "supervisor_pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    eventually(node.is_up)
    if whom == "daemon":
        eventually(lambda: not any(os.path.exists(link(node, i)) for i in before))
    after = waiting(node)
    assert (after == before) is (whom == "supervisor")
    eventually(lambda: nothing_is_left(node))
    assert len(leases(node)) == SIZE + 1
    pods.append("next")
    node.pod("next", sleeper())


def test_an_orderly_end_undoes_them(settings) -> None:
    """With kept pods, too; the next start prepares others."""
    other = Node(f"{INSTANCE}p")
    try:
        other.run("up")
        before = waiting(other)
        other.run("down", "--keep-pods")
        assert not prepared(other.instance)
        assert not leases(other)
        eventually(lambda: not any(os.path.exists(link(other, i)) for i in before))
        other.run("up")
        assert not waiting(other) & before
    finally:
        other.run("reset", "-y")
    names = [name for _, name in socket.if_nameindex()]
    assert not [name for name in names if name.startswith(other.instance.link_prefix)]


@pytest.fixture
def small(settings):
    """A node of few addresses, of which one is left beside those of the sandboxes that wait."""
    name = f"{INSTANCE}p"
    text = settings.read_text()
    base = Node(name).instance.subnet4.split("/")[0]
    settings.write_text(
        f'{text}\n[instance.{name}]\nsubnet4 = "{base}/29"\nregistries = "{settings.parent}"\n'
    )
    try:
        with started(name) as made:
            yield made
    finally:
        settings.write_text(text)


def test_no_pod_lacks_an_address_for_their_sake(small) -> None:
    """Pods that fit none of them: the addresses of those that wait are given to them, one by one."""
    waiting(small)
    sysctl = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "1"}
    for n in range(SIZE + 1):
        small.pod(f"p{n}", sleeper(), securityContext={"sysctls": [sysctl]})
    # An idle node tries to prepare one, whose record is there until it finds no address.
    eventually(lambda: not prepared(small.instance))
    assert len(leases(small)) == SIZE + 1


def test_a_node_may_keep_none(settings) -> None:
    name = f"{INSTANCE}p"
    text = settings.read_text()
    settings.write_text(f"{text}\n[instance.{name}]\nprepared_sandboxes = 0\n")
    try:
        with started(name) as other:
            other.pod("own", sleeper())
            assert not prepared(other.instance)
    finally:
        settings.write_text(text)
