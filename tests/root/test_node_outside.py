"""What leaves the node: the "outside" is one more network namespace, which knows no route to the pods."""

from __future__ import annotations

import os
import subprocess

import pytest

from minipod import config
from minipod.linux import namespaces, nftables
from minipod.linux.flags import CloneFlag
from minipod.network import masquerade, uplink
from tests.node import MINIPOD, sleeper
from tests.root.conftest import INSTANCE

pytestmark = pytest.mark.smoke

NODE, OUTSIDE = ("198.51.100.1", "2001:db8:51::1"), ("198.51.100.2", "2001:db8:51::2")


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def inside(pid: str, *words: str) -> None:
    subprocess.run(["nsenter", "-t", pid, "-n", *words], check=True, capture_output=True)


@pytest.fixture
def outside():
    """A namespace that is connected to the node alone: the pid of a process that holds it."""
    holder = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
    with holder:
        pid = str(holder.pid)
        name = f"{INSTANCE}o"  # of this run: no leak of another's
        here = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{pid}/ns/net") == here:
            os.sched_yield()  # until unshare(1) has done it; no event tells
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", pid)
        for near, far, bits in zip(NODE, OUTSIDE, ("24", "64"), strict=True):
            flags = ["nodad"] if ":" in near else []
            ip("address", "add", f"{near}/{bits}", "dev", name, *flags)
            inside(pid, "ip", "address", "add", f"{far}/{bits}", "dev", "eth0", *flags)
        ip("link", "set", name, "up")
        inside(pid, "ip", "link", "set", "eth0", "up")
        yield pid
        holder.stdin.close()


@pytest.mark.parametrize("number", [0, 1], ids=["ipv4", "ipv6"])
def test_the_outside_sees_the_node_not_the_pod(node, pods, outside: str, number: int) -> None:
    pods.append("caller")
    node.pod("caller", sleeper())
    listener = subprocess.Popen(
        ["nsenter", "-t", outside, "-n", "python3", "-c", LISTEN, OUTSIDE[number]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with listener:
        assert listener.stdout.readline() == "listening\n"
        node.exec("caller", "sh", "-c", f"echo hello | nc -w 20 {OUTSIDE[number]} 8080")
        assert listener.stdout.readline() == f"{NODE[number]} hello\n"


LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], 8080), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("listening", flush=True)
server.settimeout(60)
connection, peer = server.accept()
print(peer[0], connection.makefile().readline().strip(), flush=True)
"""


def test_a_pods_link_carries_no_more_than_the_nodes_uplink(node, pods) -> None:
    pods.append("sized")
    node.pod("sized", sleeper())
    assert node.exec("sized", "cat", "/sys/class/net/eth0/mtu").strip() == str(uplink.mtu())


def test_a_chain_that_drops_what_is_forwarded_is_found() -> None:
    pid = os.fork()
    if pid == 0:  # in a network namespace of its own
        try:
            namespaces.unshare(CloneFlag.CLONE_NEWNET)
            assert masquerade.foreign_drops() == []
            chain = {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter",
                     "hook": "forward", "prio": 0, "policy": "drop"}  # fmt: skip
            nftables.run(
                [{"add": {"table": {"family": "ip", "name": "filter"}}}, {"add": {"chain": chain}}]
            )
            os._exit(masquerade.foreign_drops() != ["ip filter FORWARD"])
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_reset_takes_a_link_whose_namespace_lives_on(outside: str) -> None:
    """As after a pod whose killed process had said something that nobody acknowledged: its socket keeps the namespace."""
    instance = config.load(name=f"{INSTANCE}r").instance
    name = f"{instance.link_prefix}{0:08x}"
    ip("link", "add", name, "type", "veth", "peer", "name", "eth1", "netns", outside)
    subprocess.run([MINIPOD, "--instance", instance.name, "reset", "-y"], check=True)
    assert name not in ip("link")
