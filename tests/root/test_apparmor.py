"""AppArmor profiles on a kernel that has them (Debian's has; scripts/vm boots it): the default one, one of the node's, a missing one.

Elsewhere a pod that wants one is rejected: tests/root/test_pod_namespaces.py.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from minipod.linux import apparmor
from tests.node import eventually, shell, sleeper

pytestmark = [
    pytest.mark.skipif(not apparmor.enabled(), reason="this kernel enforces no AppArmor"),
    pytest.mark.smoke,
]

OWN = """
profile minipod-test flags=(attach_disconnected, mediate_deleted) {
  file,
  signal,
  deny /tmp/secret w,
}
"""
CURRENT = "/proc/self/attr/current"


def wants(kind: str, name: str = "") -> dict[str, object]:
    profile = {"type": kind, **({"localhostProfile": name} if name else {})}
    return {"appArmorProfile": profile}


@pytest.fixture
def own():
    """A profile of the node's, as an administrator loads it."""
    if not os.path.exists(apparmor.PARSER):
        pytest.skip("no apparmor_parser")
    subprocess.run([apparmor.PARSER, "-r", "-K"], input=OWN, text=True, check=True)
    yield "minipod-test"
    subprocess.run([apparmor.PARSER, "-R"], input=OWN, text=True, check=True)


def test_a_container_and_what_is_executed_in_it_enter_their_profile(node, pods, own) -> None:
    pods.append("confined")
    script = (
        "cat /proc/self/attr/current; echo x > /tmp/secret; echo x > /tmp/open; exec sleep 1000"
    )
    node.pod(
        "confined",
        sleeper("free"),
        shell(script, "own", securityContext=wants("Localhost", own)),
        securityContext=wants("RuntimeDefault"),
    )
    assert node.exec("confined", "cat", CURRENT, container="free") == "minipod-default (enforce)\n"
    look = f"cat {CURRENT}; ls /tmp"
    wanted = "minipod-test (enforce)\nopen\n"
    eventually(lambda: node.exec("confined", "sh", "-c", look, container="own") == wanted)
    node.await_log("confined", "minipod-test (enforce)", "Permission denied", container="own")


def test_who_is_unconfined_or_privileged_enters_none(node, pods) -> None:
    pods.append("free")
    node.pod(
        "free",
        sleeper("asked", securityContext=wants("Unconfined")),
        sleeper("mighty", securityContext={"privileged": True}),
        securityContext=wants("RuntimeDefault"),
    )
    for container in ("asked", "mighty"):
        assert "minipod" not in node.exec("free", "cat", CURRENT, container=container)


def test_a_profile_that_is_not_loaded_is_named(node, pods) -> None:
    pods.append("missing")
    node.pod("missing", sleeper(securityContext=wants("Localhost", "nobody-has-it")), wait="")
    words = "AppArmor profile nobody-has-it is not loaded"
    node.await_event("missing", words=words)
