"""A supervisor dies while pods are made and ended: its successor is all that they wait for, and nothing half-made stays."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time

import pytest

from minipod.cli.wait import await_one
from minipod.errors import Unavailable
from minipod.linux.process import pidfd_open
from minipod.spec.container import ContainerSpec, Mount
from minipod.spec.sandbox import UserNamespace
from tests.node import PATIENCE, eventually, shell
from tests.parked import hanging
from tests.parts import Parts, sandbox_spec
from tests.root.test_node_adoption import await_other, kill_and_wait
from tests.root.test_node_faults import USERNS

# seconds; a supervisor needs half of one, a kubelet's next try without news ten to fifteen
RETRY = 9.0


def create(node, name: str) -> None:
    """Create a pod at once, without a process of its own."""
    container = {"image": "busybox:1.36", **shell("exec sleep 1000")}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
    node.client.request("POST", "/api/v1/namespaces/default/pods", body=manifest)


def supervisor_of(node) -> int:
    return node.client.request("GET", "/minipod/status")["supervisor_pid"]


def test_pods_created_while_the_supervisor_is_replaced_are_ready_soon_after(node, pods) -> None:
    """At every moment: before its end is known, without one, while the next one adopts and the daemon recovers."""
    undisturbed = 0.0
    for turn in range(3):  # undisturbed first: that takes its time, too
        old = supervisor_of(node)
        names = [f"p{turn}-{i}" for i in range(9)]
        pods.extend(names)
        if turn:
            kill_and_wait(old)
        for i, name in enumerate(names):
            create(node, name)
            if turn and i < 6 and supervisor_of(node) in (0, old):
                select.select([], [], [], 0.04 * PATIENCE)  # the last ones meet the recovery
        took = seconds_until_ready(node, names)
        if turn:
            assert took < undisturbed + RETRY
            assert supervisor_of(node) not in (0, old)
        else:
            undisturbed = took
        node.delete(*names)


def seconds_until_ready(node, names: list[str]) -> float:
    begun = time.monotonic()
    for name in names:
        await_one(node.client, "pods", "default", name, "condition=Ready", begun + 60 * PATIENCE)
    return time.monotonic() - begun


def test_pods_deleted_while_the_supervisor_is_replaced_are_gone_soon_after(node, pods) -> None:
    names = [f"gone{i}" for i in range(4)]
    pods.extend(names)
    took = []
    for disturbed in (False, True):
        for name in names:
            create(node, name)
        seconds_until_ready(node, names)
        old = supervisor_of(node)
        if disturbed:
            kill_and_wait(old)
        begun = time.monotonic()
        node.run("delete", "pods", *names)
        took.append(time.monotonic() - begun)
    assert took[1] < took[0] + RETRY
    await_other(node, "supervisor_pid", old)
    await_clean(node)


def await_clean(node) -> None:
    """The new supervisor answers before everything is recovered through it."""
    eventually(lambda: node.run("doctor", "--leaks", check=False).returncode == 0)


async def begin(parts: Parts, sandbox: str, container: str, userns: UserNamespace | None) -> None:
    """Make a sandbox, and a container in it; one of them hangs."""
    made = await parts.sandboxes.run(sandbox_spec(userns), fail_at=sandbox)
    host = Mount(host_path="/etc/hostname", container_path="/h")
    spec = ContainerSpec(name="c", image="busybox", command=("sleep", "1000"), mounts=(host,))
    await parts.containers.create(parts.state.sandbox(made), spec, (), fail_at=container)


async def hang(node, parts: Parts, *where) -> tuple[asyncio.Task, list[int]]:
    """Begin and wait until a set-up hangs; return who waits for it, and the pidfds of its processes."""
    parts.supervisor.connect()
    await parts.supervisor.request("subscribe")
    supervisor = supervisor_of(node)
    before = hanging(supervisor)
    begun = asyncio.ensure_future(begin(parts, *where))
    while not (found := hanging(supervisor) - before):  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # nobody tells of a process that hangs
    return begun, [pidfd_open(pid) for pid in found]


def assert_dead(pidfds: list[int]) -> None:
    assert pidfds
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], 60)[0]
        os.close(pidfd)


# Of a container, before its cgroup is made and behind that; of one in a user namespace, in its first process and in its second; of
# such a sandbox (others are made by the daemon).
HANGING = pytest.mark.parametrize(
    ("sandbox", "container", "userns"),
    [
        ("", "hang:CreateCgroup", None),
        ("", "hang:MountRoot", None),
        ("", "hang:CloneRoot", USERNS),
        ("", "hang:AttachRoot", USERNS),
        ("hang:PinNamespaces", "", USERNS),
    ],
)


@HANGING
def test_what_a_dead_supervisor_was_making_is_undone(node, sandbox, container, userns) -> None:
    """The daemon's recovery undoes what has a record, whoever asked for it."""

    async def run() -> None:
        parts = Parts(node)
        begun, pidfds = await hang(node, parts, sandbox, container, userns)
        old = supervisor_of(node)
        os.kill(old, signal.SIGKILL)
        with pytest.raises(Unavailable):
            await begun
        await asyncio.to_thread(assert_dead, pidfds)
        await asyncio.to_thread(await_other, node, "supervisor_pid", old)
        await asyncio.to_thread(
            eventually, lambda: not os.listdir(f"{node.instance.run_dir}/containers")
        )
        parts.supervisor.connect()
        for made in list(parts.state.sandboxes):
            await parts.sandboxes.remove(made)
        parts.supervisor.close()
        parts.close()

    asyncio.run(run())
    await_clean(node)


@HANGING
def test_a_supervisor_gives_up_what_a_client_that_died_was_having_made(
    node, sandbox, container, userns
) -> None:
    async def run() -> None:
        parts = Parts(node)
        begun, pidfds = await hang(node, parts, sandbox, container, userns)
        parts.supervisor.close()
        with pytest.raises(Unavailable):
            await begun
        await asyncio.to_thread(assert_dead, pidfds)
        parts.supervisor.connect()
        for made in list(parts.state.containers):
            await parts.containers.remove(made)
        for made in list(parts.state.sandboxes):
            await parts.sandboxes.remove(made)
        parts.supervisor.close()
        parts.close()

    asyncio.run(run())
    await_clean(node)
