"""The gRPC services on a unix socket, under `runtime.v1` and, for old kubelets, `runtime.v1alpha2`.

grpclib answers an unknown service in a way that no client understands, so both services are registered whole: what is not implemented
answers UNIMPLEMENTED.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server

from minipod.cri import messages
from minipod.cri.errors import to_grpc
from minipod.cri.messages import Messages
from minipod.errors import MinipodError

logger = logging.getLogger(__name__)

RUNTIME: Final = (
    "Version RunPodSandbox StopPodSandbox RemovePodSandbox PodSandboxStatus ListPodSandbox CreateContainer StartContainer"
    " StopContainer RemoveContainer ListContainers ContainerStatus UpdateContainerResources ReopenContainerLog ExecSync Exec Attach"
    " PortForward ContainerStats ListContainerStats PodSandboxStats ListPodSandboxStats UpdateRuntimeConfig Status RuntimeConfig"
).split()
RUNTIME_MISSING: Final = (
    "CheckpointContainer CheckpointPod RestorePod ListMetricDescriptors ListPodSandboxMetrics UpdatePodSandboxResources"
    " StreamPodSandboxes StreamContainers StreamContainerStats StreamPodSandboxStats StreamPodSandboxMetrics"
).split()
IMAGE: Final = "ListImages ImageStatus PullImage RemoveImage ImageFsInfo".split()
IMAGE_MISSING: Final = ("StreamImages",)
NOT_NAMED_ALIKE: Final = {"GetContainerEvents": ("GetEventsRequest", "ContainerEventResponse")}


class Service:
    """One gRPC service: the RPCs of *rpcs* by name, and those that answer UNIMPLEMENTED."""

    def __init__(
        self, pb: Messages, name: str, rpcs: object, unary: list[str], missing: tuple[str, ...]
    ) -> None:
        self._pb = pb
        self._path = f"/{pb.package}.{name}"
        self._rpcs = rpcs
        self._unary = unary
        self._missing = missing
        self._streamed = [n for n in NOT_NAMED_ALIKE if hasattr(rpcs, snake_case(n))]

    def __mapping__(self) -> Mapping[str, Handler]:
        handlers = {}
        for name in (*self._unary, *self._streamed, *self._missing):
            cardinality = (
                Cardinality.UNARY_STREAM if name in self._streamed else Cardinality.UNARY_UNARY
            )
            # What is not implemented is not read either: any message takes any bytes.
            asked, answer = ("VersionRequest", "VersionResponse") if name in self._missing else (
                NOT_NAMED_ALIKE.get(name, (f"{name}Request", f"{name}Response"))
            )  # fmt: skip
            handlers[f"{self._path}/{name}"] = Handler(
                self._handler(name),
                cardinality,
                getattr(self._pb, asked),
                getattr(self._pb, answer),
            )
        return handlers

    def _handler(self, name: str) -> Callable[[Any], Any]:
        if name in self._missing:
            return _unimplemented(name)
        method = getattr(self._rpcs, snake_case(name))

        async def unary(stream: Any) -> None:
            request = await stream.recv_message()
            await stream.send_message(await method(request))

        async def streamed(stream: Any) -> None:
            request = await stream.recv_message()
            async for message in method(request):
                if message is None:  # the headers tell the client that it misses nothing any more
                    await stream.send_initial_metadata()
                else:
                    await stream.send_message(message)

        return _told(name, streamed if name in self._streamed else unary)


def snake_case(name: str) -> str:
    """Return the method's name for an RPC's: RunPodSandbox is run_pod_sandbox."""
    return re.sub("(?<!^)(?=[A-Z])", "_", name).lower()


def _told(name: str, handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def told(stream: Any) -> None:
        try:
            await handler(stream)
        except MinipodError as e:
            raise to_grpc(e) from e
        except (GRPCError, asyncio.CancelledError, ConnectionError):
            raise
        except Exception as e:
            logger.exception("%s failed", name)
            raise GRPCError(Status.INTERNAL, f"{name}: {type(e).__name__}") from e

    return told


def _unimplemented(name: str) -> Callable[[Any], Any]:
    async def handler(_: Any) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, f"{name} is not implemented")

    return handler


Make = Callable[[Messages], tuple[object, object]]  # the RPCs of RuntimeService and ImageService


class CriServer:
    """Both services under both names."""

    def __init__(self, path: str, make: Make) -> None:
        self._path = path
        services = []
        for package in (messages.V1, messages.V1ALPHA2):
            pb = messages.of_package(package)
            runtime, images = make(pb)
            services += [
                Service(pb, "RuntimeService", runtime, RUNTIME, tuple(RUNTIME_MISSING)),
                Service(pb, "ImageService", images, IMAGE, IMAGE_MISSING),
            ]
        self._server = Server(services)

    async def start(self) -> None:
        """Listen, for root alone."""
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        old = os.umask(0o177)
        try:
            await self._server.start(path=self._path)
        finally:
            os.umask(old)

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()
