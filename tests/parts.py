"""The runtime's own parts on the supervisor of a running node, for what no pod can ask for."""

from __future__ import annotations

from minipod.cgroups.hierarchy import detect
from minipod.image.store import ImageStore
from minipod.runtime.container import Containers
from minipod.runtime.images import Images
from minipod.runtime.sandbox import Sandboxes
from minipod.runtime.state import State
from minipod.runtime.supervisor_client import SupervisorClient
from minipod.spec.sandbox import (
    Bandwidth,
    PortMapping,
    SandboxMetadata,
    SandboxSpec,
    UserNamespace,
)
from minipod.supervisor.records import ExitRecord


class Parts:
    """The runtime's own parts on the supervisor of a running node; the daemon does not know of what they make."""

    def __init__(self, node) -> None:
        instance = node.instance
        self.state = State(instance.run_dir)
        self.supervisor = SupervisorClient(instance.supervisor_socket, on_event=self.event)
        hierarchy = detect()
        images = Images(ImageStore(f"{instance.state_dir}/images"), set, instance.registries)
        # Without a network: its steps are tested with the network, and a namespace needs none to be pinned.
        self.sandboxes = Sandboxes(instance, self.state, self.supervisor, NoLink(), hierarchy)  # type: ignore[arg-type]
        self.containers = Containers(
            instance, self.state, self.supervisor, hierarchy, images, lambda *_: None
        )

    def close(self) -> None:
        """Let go of what the parts hold; the connection is the caller's."""
        self.sandboxes.close()
        self.containers.mounts.close()

    def event(self, event: dict, _: list[int]) -> None:
        if event["event"] == "exited" and event["id"] in self.state.containers:
            fields = {k: v for k, v in event.items() if k not in ("event", "id")}
            self.state.containers[event["id"]].finish(ExitRecord(**fields))


class NoLink:
    """A pod network that gives no address."""

    def lease(self, _sandbox: str) -> tuple[str, ...]:
        return ()

    async def attach(self, _sandbox: str, _fd: int, _bandwidth: Bandwidth) -> None:
        return

    async def map_ports(
        self, _sandbox: str, _ips: tuple[str, ...], _ports: tuple[PortMapping, ...]
    ) -> None:
        return

    async def detach(self, _sandbox: str) -> None:
        return


def sandbox_spec(userns: UserNamespace | None = None, logs: str = "/nonexistent") -> SandboxSpec:
    return SandboxSpec(
        userns=userns, log_directory=logs,
        metadata=SandboxMetadata(name="fault", namespace="default", uid="u"), hostname="fault",
        cgroup_parent="kubepods/besteffort/podfault", sysctls=(("net.ipv4.ip_unprivileged_port_start", "0"),),
    )  # fmt: skip
