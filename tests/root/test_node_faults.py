"""Every step of a set-up fails once: the error names the step, and nothing is left behind (the leak check looks)."""

from __future__ import annotations

import asyncio
import os

import pytest

from minipod.cgroups.hierarchy import detect
from minipod.errors import MinipodError, SetupFailed
from minipod.image.store import ImageStore
from minipod.init import plan
from minipod.init.filesystem import MountCgroups
from minipod.init.operation import Plan
from minipod.runtime.container import Containers
from minipod.runtime.images import Images
from minipod.runtime.sandbox import Sandboxes
from minipod.runtime.state import State
from minipod.runtime.supervisor_client import SupervisorClient
from minipod.spec.bundle import Bundle, Process, RootFs, SandboxBundle
from minipod.spec.container import ContainerSpec, Mount
from minipod.spec.sandbox import SandboxMetadata, SandboxSpec
from minipod.supervisor.records import ExitRecord


def operations(made: Plan) -> list[str]:
    return sorted({type(o).__name__ for o in (*made.outer, *made.inner)})


CONTAINER = operations(
    plan.container_plan(
        Bundle(
            id="x", sandbox_id="x", title="x", directory="/x", log_path="/x", cgroup="x", readonly_paths=("/x",),
            masked_paths=("/x",), mounts=(Mount(host_path="/", container_path="/x"),),
            rootfs=RootFs(lower=("/",), upper="/", work="/", mountpoint="/", readonly=True),
            process=Process(argv=("x",), env=(), rlimits=(("RLIMIT_NOFILE", 64, 64),)),
        ),
        MountCgroups(unified="."),
    )
)  # fmt: skip
SANDBOX = operations(
    plan.sandbox_plan(
        SandboxBundle(
            id="x", title="x", hostname="x", cgroup="x", sysctls=(("net.ipv4.ip_forward", "0"),)
        )
    )
)


class Parts:
    """The runtime's own parts on the supervisor of a running node; the daemon does not know of what they make."""

    def __init__(self, node) -> None:
        instance = node.instance
        self.state = State(instance.run_dir)
        self.supervisor = SupervisorClient(instance.supervisor_socket, on_event=self.event)
        hierarchy = detect()
        images = Images(ImageStore(f"{instance.state_dir}/images"), set)
        # Without a network: its steps are tested with the network, and a namespace needs none to be pinned.
        self.sandboxes = Sandboxes(instance, self.state, self.supervisor, NoLink(), hierarchy)  # type: ignore[arg-type]
        self.containers = Containers(
            instance, self.state, self.supervisor, hierarchy, images, lambda *_: None
        )

    def event(self, event: dict) -> None:
        if event["event"] == "exited" and event["id"] in self.state.containers:
            fields = {k: v for k, v in event.items() if k not in ("event", "id")}
            self.state.containers[event["id"]].finish(ExitRecord(**fields))


class NoLink:
    """A pod network that gives no address."""

    async def attach(self, _sandbox: str, _fd: int) -> tuple[str, ...]:
        return ()

    async def detach(self, _sandbox: str) -> None:
        return


def sandbox_spec() -> SandboxSpec:
    return SandboxSpec(
        metadata=SandboxMetadata(name="fault", namespace="default", uid="u"), hostname="fault", log_directory="/nonexistent",
        cgroup_parent="kubepods/besteffort/podfault", sysctls=(("net.ipv4.ip_unprivileged_port_start", "0"),),
    )  # fmt: skip


async def make(parts: Parts, sandbox_fault: str, container_fault: str) -> None:
    sandbox = await parts.sandboxes.run(sandbox_spec(), fail_at=sandbox_fault)
    try:
        spec = ContainerSpec(
            name="c", image="busybox", command=("true",), rlimits=(("RLIMIT_NOFILE", 64, 64),),
            mounts=(Mount(host_path="/etc/hostname", container_path="/h"),),
        )  # fmt: skip
        await parts.containers.create(
            parts.state.sandbox(sandbox), spec, "", fail_at=container_fault
        )
    finally:
        await parts.sandboxes.remove(sandbox)


async def attempt(node, *, sandbox_fault: str = "", container_fault: str = "") -> MinipodError:
    parts = Parts(node)
    parts.supervisor.connect()
    try:
        await parts.supervisor.request("subscribe")
        with pytest.raises(SetupFailed) as caught:
            await make(parts, sandbox_fault, container_fault)
        assert not parts.state.sandboxes
        assert not parts.state.containers
    finally:
        parts.supervisor.close()
    return caught.value


@pytest.mark.parametrize("step", SANDBOX)
def test_a_failing_step_of_a_sandbox_leaves_nothing(node, step: str) -> None:
    error = asyncio.run(attempt(node, sandbox_fault=step))
    assert error.subject == step
    assert error.errno == 5


@pytest.mark.parametrize("step", [s for s in CONTAINER if s != "ReadOnlyRoot"])
def test_a_failing_step_of_a_container_leaves_nothing(node, step: str) -> None:
    """Excluded: ReadOnlyRoot, which this spec does not ask for."""
    error = asyncio.run(attempt(node, container_fault=step))
    assert error.subject == step
    names = (
        os.listdir(f"{node.instance.run_dir}/containers"),
        os.listdir(f"{node.instance.state_dir}/containers"),
    )
    assert names == ([], [])
