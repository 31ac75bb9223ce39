"""A client of the CRI for tests: one call for each RPC, by name, over grpclib; a SPDY client for its URLs; requests that are wrong."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import Any
from urllib.parse import urlsplit

from grpclib.client import Channel, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Status

from minipod.cri import messages
from minipod.streaming import spdy


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


async def until(condition, seconds: float = 60.0):
    """Wait until *condition* holds; there is no event for it at the client."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):  # noqa: ASYNC110 it comes from another process
            await asyncio.sleep(0.05)
    return found


async def state(client: CriClient, container: str):
    return (await client("ContainerStatus", container_id=container)).status


class Spdy:
    """The client's end of a SPDY/3.1 connection."""

    def __init__(self, reader, writer) -> None:
        self.reader, self.writer, self.connection = reader, writer, spdy.Connection(client=True)
        self.open = self.connection.open

    async def heard(self, stream: int) -> bytes:
        """Send what is said so far; return the first bytes that come on *stream*."""
        self.writer.write(self.connection.take())
        async with asyncio.timeout(60):
            while data := await self.reader.read(1 << 16):
                for event in self.connection.receive(data):
                    if isinstance(event, spdy.Data) and event.stream == stream:
                        return event.payload
        return b""


@contextlib.asynccontextmanager
async def spdy_client(url: str, protocol: str):
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(
        f"POST {parts.path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        f"X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    try:
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        yield Spdy(reader, writer)
    finally:
        writer.close()


def refused(pb):
    """Return (RPC, fields, code, words): what is wrong, and how it is told."""
    good, app = sandbox_config(pb, "refused"), container_config(pb, "true")

    def sandbox(**more):
        changed = pb.PodSandboxConfig()
        changed.CopyFrom(good)
        for path, value in more.items():
            *parents, last = path.split("__")
            target = changed
            for name in parents:
                target = getattr(target, name)
            setattr(target, last, value)
        return {"config": changed}

    return [
        ("RunPodSandbox", sandbox(metadata__name=""), Status.INVALID_ARGUMENT, "config.metadata.name"),
        ("RunPodSandbox", sandbox(linux__cgroup_parent="a.slice"), Status.INVALID_ARGUMENT, "cgroupfs"),
        ("RunPodSandbox", sandbox(linux__cgroup_parent="/a/../b"), Status.INVALID_ARGUMENT, "cgroup_parent"),
        ("RunPodSandbox", sandbox(linux__security_context__selinux_options__level="s0"),
         Status.INVALID_ARGUMENT, "selinux_options"),
        ("RunPodSandbox", {**sandbox(), "runtime_handler": "kata"}, Status.NOT_FOUND, "kata"),
        ("PodSandboxStatus", {"pod_sandbox_id": "nosuch"}, Status.NOT_FOUND, "nosuch"),
        ("CreateContainer", {"pod_sandbox_id": "nosuch", "config": app}, Status.NOT_FOUND, "nosuch"),
        ("StartContainer", {"container_id": "nosuch"}, Status.NOT_FOUND, "nosuch"),
        ("ExecSync", {"container_id": "nosuch", "cmd": ["true"]}, Status.NOT_FOUND, "nosuch"),
        ("PullImage", {"image": pb.ImageSpec(image="team/UPPER")}, Status.INVALID_ARGUMENT, "team/UPPER"),
        ("PullImage", {"image": pb.ImageSpec(image="127.0.0.1:1/none:1")}, Status.UNKNOWN, "127.0.0.1:1"),
        ("PullImage", {}, Status.INVALID_ARGUMENT, "image.image"),
    ]  # fmt: skip
