"""Every step of a set-up fails once: the error names the step, and nothing is left behind (the leak check looks)."""

from __future__ import annotations

import asyncio
import errno
import glob
import os
from dataclasses import replace
from typing import Any

import pytest

from minipod.errors import SetupFailed
from minipod.init import plan
from minipod.init.filesystem import MountCgroups
from minipod.init.operation import Plan
from minipod.init.sandbox import sandbox_plan
from minipod.spec.bundle import Bundle, ExecBundle, Process, RootFs, SandboxBundle
from minipod.spec.container import ContainerSpec, Mount, Security
from minipod.spec.sandbox import UserNamespace
from tests.node import PATIENCE
from tests.parts import Parts, sandbox_spec


def operations(made: Plan) -> list[str]:
    return sorted({type(o).__name__ for o in (*made.outer, *made.inner, *made.execute)})


USERNS = UserNamespace(first=1 << 20)
PROCESS = Process(argv=("x",), env=(), rlimits=(("RLIMIT_NOFILE", 64, 64),))
BUNDLE = Bundle(
    id="x", sandbox_id="x", title="x", directory="/x", log_path="/x", cgroup="x", readonly_paths=("/x",), masked_paths=("/x",),
    mounts=(
        Mount(host_path="/", container_path="/x"), Mount(host_path="", image="x", layers=("/",), container_path="/i"),
    ),
    rootfs=RootFs(lower=("/",), upper="/", work="/", mountpoint="/", readonly=True),
    process=PROCESS,
)  # fmt: skip
MAPPED = replace(BUNDLE, userns=USERNS, rootfs=replace(BUNDLE.rootfs, mapped=True))
POD = SandboxBundle(
    id="x", title="x", hostname="x", cgroup="x", sysctls=(("net.ipv4.ip_forward", "0"),)
)
CGROUPS = MountCgroups(unified=".")
EXECUTED = ExecBundle(id="x", container_id="x", process=PROCESS)

CONTAINER = operations(plan.container_plan(BUNDLE, CGROUPS))
EXEC = operations(plan.exec_plan(EXECUTED, "x"))
SANDBOX = operations(sandbox_plan(POD))
# What a pod in a user namespace of its own has beside these.
OWN_USERS = sorted(
    {("container", name) for name in operations(plan.container_plan(MAPPED, CGROUPS)) if name not in CONTAINER}
    | {("execute", name) for name in operations(plan.exec_plan(EXECUTED, "x", userns=True)) if name not in EXEC}
    | {("sandbox", name) for name in operations(sandbox_plan(replace(POD, userns=USERNS))) if name not in SANDBOX}
)  # fmt: skip


async def run_all(
    parts: Parts,
    *,
    sandbox: str = "",
    container: str = "",
    execute: str = "",
    userns: UserNamespace | None = None,
) -> None:
    """A sandbox, a container in it and an exec in that, each with a fault; removed whatever happens."""
    made = await parts.sandboxes.run(sandbox_spec(userns), fail_at=sandbox)
    try:
        spec = ContainerSpec(
            name="c", image="busybox", command=("sleep", "1000"), rlimits=(("RLIMIT_NOFILE", 64, 64),),
            mounts=(
                Mount(host_path="/etc/hostname", container_path="/h"),
                Mount(host_path="", image="busybox", container_path="/i"),
            ),
            security=Security(readonly_rootfs=True),
        )  # fmt: skip
        record = parts.state.sandbox(made)
        started = await parts.containers.create(record, spec, (), fail_at=container)
        try:
            await parts.containers.start(parts.state.container(started))
            with open(os.devnull, "r+b") as null:  # noqa: ASYNC230 it does not block
                stdio = (null.fileno(),) * 3
                await parts.supervisor.request(
                    "exec", id=started, container=started, argv=("true",), tty=False, fail_at=execute, fds=stdio
                )  # fmt: skip
        finally:
            await parts.containers.remove(started)
    finally:
        await parts.sandboxes.remove(made)


async def attempt(node, **faults: Any) -> SetupFailed:
    """Return the error; no record is left, and the leak check looks at the rest."""
    parts = Parts(node)
    parts.supervisor.connect()
    try:
        await parts.supervisor.request("subscribe")
        with pytest.raises(SetupFailed) as caught:
            await run_all(parts, **faults)
        assert not parts.state.sandboxes
        assert not parts.state.containers
    finally:
        parts.supervisor.close()
        parts.close()
    return caught.value


def directories(node) -> list[str]:
    roots = (node.instance.run_dir, node.instance.state_dir)
    return [path for root in roots for path in glob.glob(f"{root}/containers/*")]


@pytest.mark.parametrize("step", SANDBOX)
def test_a_failing_step_of_a_sandbox_leaves_nothing(node, step: str) -> None:
    error = asyncio.run(attempt(node, sandbox=step))
    assert (error.subject, error.errno) == (step, errno.EIO)
    assert directories(node) == []


@pytest.mark.parametrize("step", CONTAINER)
def test_a_failing_step_of_a_container_leaves_nothing(node, step: str) -> None:
    error = asyncio.run(attempt(node, container=step))
    assert (error.subject, error.errno) == (step, errno.EIO)
    assert directories(node) == []


@pytest.mark.parametrize("step", EXEC)
def test_a_failing_step_of_an_exec_leaves_nothing(node, step: str) -> None:
    error = asyncio.run(attempt(node, execute=step))
    assert (error.subject, error.errno) == (step, errno.EIO)
    assert directories(node) == []


@pytest.mark.parametrize(("where", "step"), OWN_USERS)
def test_a_failing_step_of_a_user_namespace_leaves_nothing(node, where: str, step: str) -> None:
    error = asyncio.run(attempt(node, userns=USERNS, **{where: step}))
    assert (error.subject, error.errno) == (step, errno.EIO)
    assert directories(node) == []


def test_hanging_steps_are_given_up_at_the_deadline_and_leave_nothing(node) -> None:
    """One that hangs before the second fork, one after it, one of an exec."""

    async def all_at_once() -> list[SetupFailed]:
        return await asyncio.gather(
            attempt(node, container="hang:OpenSource"),
            attempt(node, container="hang:MountRoot"),
            attempt(node, execute="hang:JoinContainer"),
        )

    for error in asyncio.run(all_at_once()):
        assert error.errno == errno.ETIMEDOUT
        assert f"not done after {10 * PATIENCE:g} s" in str(error)
    assert directories(node) == []
