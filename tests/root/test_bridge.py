"""The node's bridge over changes of its settings."""

from __future__ import annotations

import json
import subprocess

import pytest

from minipod.network import bridge
from minipod.network.ipam import Subnets
from tests.node import eventually, sleeper
from tests.root.conftest import INSTANCE

FIRST = Subnets.parse("10.255.16.0/24", "fd00:6d70:fff0::/64")
SECOND = Subnets.parse("10.255.17.0/24", "fd00:6d70:fff1::/64")


def addresses(name: str) -> set[str]:
    """The addresses of an interface, but for the link's own."""
    shown = subprocess.run(
        ["ip", "-j", "addr", "show", name], capture_output=True, check=True
    ).stdout
    found = json.loads(shown)[0]["addr_info"]
    return {f"{a['local']}/{a['prefixlen']}" for a in found if a["scope"] == "global"}


@pytest.fixture
def name():
    made = f"{INSTANCE}b"[-15:]
    yield made
    bridge.remove(made)


def test_a_bridge_gets_the_gateways_of_subnets_that_were_set_anew(name) -> None:
    """The old ones stay, for pods that were left running."""
    before = {"10.255.16.1/24", "fd00:6d70:fff0::1/64"}
    index = bridge.ensure(name, FIRST)
    assert addresses(name) == before
    assert bridge.ensure(name, FIRST) == index
    assert bridge.ensure(name, SECOND) == index
    assert addresses(name) == before | {"10.255.17.1/24", "fd00:6d70:fff1::1/64"}
    assert bridge.ensure(name, SECOND) == index


@pytest.mark.parametrize("restart", [False, True])
def test_a_bridge_that_somebody_deletes_comes_back_with_the_pods_on_it(
    node, pods, restart: bool
) -> None:
    """With the next pod, or the next start: whichever comes first."""
    pods += ["before", "after"]
    address = node.pod("before", sleeper())["status"]["podIP"]
    subprocess.run(["ip", "link", "del", node.instance.bridge], check=True)
    if restart:
        node.run("down", "--keep-pods")
        node.run("up")
    node.pod("after", sleeper())
    reach = ("ping", "-c", "1", "-W", "1", address)
    eventually(lambda: "1 packets received" in node.exec("after", *reach, check=False))
    node.exec("before", "ping", "-c", "1", "-W", "5", node.instance.gateways[0])
