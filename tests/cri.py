"""A client of the CRI for tests: one call for each RPC, by name, over grpclib."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod

from minipod.cri import messages


class CriClient:
    """`await client("Version", version="v1")`; *services* is RuntimeService for all that is not of images."""

    def __init__(self, path: str, package: str = messages.V1) -> None:
        self.pb: Any = messages.of_package(package)
        self._channel = Channel(path=path)

    def close(self) -> None:
        self._channel.close()

    def _path(self, name: str) -> str:
        service = "ImageService" if "Image" in name else "RuntimeService"
        return f"/{self.pb.package}.{service}/{name}"

    async def __call__(self, name: str, **fields: Any) -> Any:
        """Call a unary RPC; raises GRPCError."""
        asked, answer = (getattr(self.pb, f"{name}{part}") for part in ("Request", "Response"))
        method = UnaryUnaryMethod(self._channel, self._path(name), asked, answer)
        return await method(asked(**fields), timeout=60)

    async def raw(self, name: str) -> Any:
        """Call an RPC whose messages are not known, with an empty one."""
        empty = self.pb.VersionRequest
        return await UnaryUnaryMethod(self._channel, self._path(name), empty, empty)(empty())

    def events(self) -> Any:
        """Open the stream of events: an async context manager whose value can be iterated."""
        pb = self.pb
        return UnaryStreamMethod(
            self._channel,
            self._path("GetContainerEvents"),
            pb.GetEventsRequest,
            pb.ContainerEventResponse,
        ).open()


def sandbox_config(pb, name: str, **more):
    """A config as small as a kubelet's smallest; *more* are fields of LinuxPodSandboxConfig."""
    options = pb.NamespaceOption(pid=pb.CONTAINER)
    security = pb.LinuxSandboxSecurityContext(namespace_options=options)
    return pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(name=name, uid=uuid.uuid4().hex, namespace="ns"),
        hostname=name,
        labels={"app": name},
        annotations={"note": "kept"},
        linux=pb.LinuxPodSandboxConfig(security_context=security, **more),
    )


def container_config(pb, script: str, **more):
    options = pb.NamespaceOption(pid=pb.CONTAINER)
    security = pb.LinuxContainerSecurityContext(namespace_options=options)
    fields = {
        "metadata": pb.ContainerMetadata(name="app"),
        "image": pb.ImageSpec(image="busybox:1.36"),
        "command": ["sh", "-c", script],
        "labels": {"tier": "web"},
        "annotations": {"note": "kept"},
        "linux": pb.LinuxContainerConfig(security_context=security),
    }
    return pb.ContainerConfig(**{**fields, **more})


async def run(cri: CriClient, name: str, script: str, **more) -> tuple[str, str]:
    """Run a sandbox with one container; return their ids."""
    config = sandbox_config(cri.pb, name)
    sandbox = (await cri("RunPodSandbox", config=config)).pod_sandbox_id
    made = await cri(
        "CreateContainer", pod_sandbox_id=sandbox, sandbox_config=config,
        config=container_config(cri.pb, script, **more),
    )  # fmt: skip
    await cri("StartContainer", container_id=made.container_id)
    return sandbox, made.container_id


async def until(condition, seconds: float = 20.0):
    """Wait until *condition* holds; there is no event for it at the client."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):  # noqa: ASYNC110 it comes from another process
            await asyncio.sleep(0.05)
    return found


async def state(client: CriClient, container: str):
    return (await client("ContainerStatus", container_id=container)).status
