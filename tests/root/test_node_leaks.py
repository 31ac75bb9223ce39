"""`minipod doctor --leaks` names what no record owns, one of each kind planted here."""

from __future__ import annotations

import os

import pytest
from pyroute2 import IPRoute

from minipod.cgroups.hierarchy import detect
from minipod.init.operation import Context
from minipod.init.sync import pair
from minipod.init.vault import PinNamespaces
from minipod.linux import mount
from minipod.linux.flags import CloneFlag, MountFlag, UmountFlag
from minipod.linux.namespaces import unshare
from minipod.runtime.vault import Vault
from minipod.spec.container import Resources
from tests.node import eventually

GHOST = "0123456789abcdef0123456789abcdef"


def leaks(node) -> list[str]:
    return node.run("doctor", "--leaks", check=False).stdout.splitlines()


def await_leaks(node, *wanted: str) -> None:
    """Wait until these are told of: of the pods of the test before, which ends behind its back, something may still be there."""
    eventually(lambda: leaks(node) == sorted(wanted))


def test_a_node_with_a_running_pod_has_none(node, pods) -> None:
    pods.append("clean")
    node.pod("clean", {"name": "app", "command": ["sleep", "1000"]})
    await_leaks(node, "nothing is left behind")
    node.run("doctor", "--leaks")


def test_a_directory(node) -> None:
    path = f"{node.instance.state_dir}/containers/{GHOST}"
    os.makedirs(path)
    try:
        await_leaks(node, f"directory {path}")
    finally:
        os.rmdir(path)


def test_a_cgroup(node) -> None:
    hierarchy = detect()
    path = f"{node.instance.cgroup_root}/kubepods/{GHOST}"
    hierarchy.create(path, Resources())
    try:
        await_leaks(node, *(f"cgroup {t.path(path)}" for t in hierarchy.trees))
    finally:
        hierarchy.remove(path)


@pytest.mark.parametrize("place", ["run_dir", "state_dir"])
def test_a_mount(node, place: str) -> None:
    path = f"{getattr(node.instance, place)}/pods/{GHOST}"
    os.makedirs(path)
    mount.mount("ghost", path, "tmpfs", MountFlag(0), "")
    try:
        assert f"mount {path}" in leaks(node)
    finally:
        mount.umount2(path, UmountFlag.MNT_DETACH)
        os.removedirs(path)


def test_the_volumes_of_no_pod(node) -> None:
    path = f"{node.instance.state_dir}/pods/{GHOST}"
    os.makedirs(path)
    try:
        await_leaks(node, f"directory {path}")
    finally:
        os.rmdir(path)


def test_pinned_namespaces(node) -> None:
    vault = os.open(f"{node.instance.run_dir}/vault", os.O_RDONLY)
    ours, theirs = pair()
    context = Context(sync=theirs, hierarchy=detect(), vault_fd=vault)
    if (child := os.fork()) == 0:
        unshare(CloneFlag.CLONE_NEWUTS)
        PinNamespaces(sandbox_id=GHOST, kinds=("uts",), shm_size=0).apply(context)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    try:
        await_leaks(node, f"namespaces of sandbox {GHOST}")
    finally:
        pins = Vault(f"{node.instance.run_dir}/vault")
        pins.drop(GHOST)
        pins.drop(GHOST)  # idempotent
        pins.close()
        os.close(vault)
        ours.close()
        theirs.close()
    await_leaks(node, "nothing is left behind")


def test_a_lease(node) -> None:
    path = f"{node.instance.run_dir}/leases/10.0.0.1"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(GHOST, path)
    try:
        await_leaks(node, f"lease 10.0.0.1 of sandbox {GHOST}")
    finally:
        os.unlink(path)


def test_a_link(node) -> None:
    name = f"{node.instance.link_prefix}01234567"
    with IPRoute() as ip:
        ip.link("add", ifname=name, kind="bridge")
        try:
            await_leaks(node, f"link {name}")
        finally:
            ip.link("del", index=ip.link_lookup(ifname=name)[0])
