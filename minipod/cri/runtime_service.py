"""RuntimeService: one method for each RPC, named like it in snake case. Requests and answers are messages of *pb*.

Stop and remove are idempotent, and a thing that is not there is stopped and removed (the comments of api.proto). An id may be cut
short as long as it is the only one that begins so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import minipod
from minipod.cri import render
from minipod.cri.convert import (
    HANDLERS,
    container_spec,
    of_prefix,
    resources,
    sandbox_spec,
    selects,
)
from minipod.cri.messages import Messages
from minipod.cri.stats import Stats
from minipod.cri.streaming import StreamingServer
from minipod.errors import FailedPrecondition, NotFound
from minipod.linux.namespaces import user_namespaces_max
from minipod.runtime.service import (
    ContainerState,
    ContainerStatus,
    EventType,
    RuntimeEvent,
    RuntimeService,
    SandboxState,
    SandboxStatus,
)
from minipod.spec.ids import ContainerId, SandboxId
from minipod.streaming.remotecommand import Wanted

EVENTS: Final = {
    EventType.CONTAINER_CREATED: "CONTAINER_CREATED_EVENT",
    EventType.CONTAINER_STARTED: "CONTAINER_STARTED_EVENT",
    EventType.CONTAINER_EXITED: "CONTAINER_STOPPED_EVENT",
    EventType.CONTAINER_REMOVED: "CONTAINER_DELETED_EVENT",
}
EVENTS_BEHIND: Final = 1000  # a client that is further behind loses the stream, and lists again
EXEC_SYNC_MAX: Final = 16 << 20  # bytes of each output, as containerd keeps


class RuntimeRpcs:
    """The RPCs of one package."""

    def __init__(
        self,
        pb: Messages,
        runtime: RuntimeService,
        streams: StreamingServer,
        stats: Stats,
        log_root: str,
    ) -> None:
        self._pb = pb
        self._runtime = runtime
        self._streams = streams
        self._stats = stats
        self._log_root = log_root

    # -- the runtime itself

    async def version(self, _: Any) -> Any:
        return self._pb.VersionResponse(
            version="0.1.0",
            runtime_name="minipod",
            runtime_version=minipod.__version__,
            runtime_api_version=self._pb.package.removeprefix("runtime."),
        )

    async def status(self, _: Any) -> Any:
        pb = self._pb
        conditions = [
            pb.RuntimeCondition(type=name, status=True) for name in ("RuntimeReady", "NetworkReady")
        ]
        features = pb.RuntimeHandlerFeatures(
            recursive_read_only_mounts=True, user_namespaces=user_namespaces_max() > 0
        )
        return pb.StatusResponse(
            status=pb.RuntimeStatus(conditions=conditions),
            runtime_handlers=[pb.RuntimeHandler(name=n, features=features) for n in HANDLERS],
            features=pb.RuntimeFeatures(supplemental_groups_policy=True),
        )

    async def runtime_config(self, _: Any) -> Any:
        pb = self._pb
        return pb.RuntimeConfigResponse(
            linux=pb.LinuxRuntimeConfiguration(cgroup_driver=pb.CGROUPFS)
        )

    async def update_runtime_config(self, _: Any) -> Any:
        """A kubelet tells the pods' range; ours is the instance's, so nothing changes (as for containerd with a CNI configuration)."""
        return self._pb.UpdateRuntimeConfigResponse()

    # -- sandboxes

    async def run_pod_sandbox(self, request: Any) -> Any:
        if request.runtime_handler not in HANDLERS:
            raise NotFound(
                f"no runtime handler {request.runtime_handler!r}", hint=f"ours: {HANDLERS[1]}"
            )
        spec = sandbox_spec(self._pb, request.config, self._log_root)
        return self._pb.RunPodSandboxResponse(
            pod_sandbox_id=await self._runtime.run_pod_sandbox(spec)
        )

    async def stop_pod_sandbox(self, request: Any) -> Any:
        if (found := await self._find_sandbox(request.pod_sandbox_id)) is not None:
            await self._runtime.stop_pod_sandbox(found.id)
        return self._pb.StopPodSandboxResponse()

    async def remove_pod_sandbox(self, request: Any) -> Any:
        if (found := await self._find_sandbox(request.pod_sandbox_id)) is not None:
            await self._runtime.stop_pod_sandbox(found.id)
            await self._runtime.remove_pod_sandbox(found.id)
        return self._pb.RemovePodSandboxResponse()

    async def pod_sandbox_status(self, request: Any) -> Any:
        status = await self._sandbox(request.pod_sandbox_id)
        return self._pb.PodSandboxStatusResponse(
            status=render.sandbox_status(self._pb, status), timestamp=time.time_ns()
        )

    async def list_pod_sandbox(self, request: Any) -> Any:
        pb, wanted = self._pb, request.filter
        state = wanted.state.state if wanted.HasField("state") else None
        return pb.ListPodSandboxResponse(
            items=[
                render.sandbox(pb, s)
                for s in await self._runtime.list_pod_sandboxes()
                if s.id.startswith(wanted.id)
                and state in (None, render.sandbox_state(pb, s))
                and selects(wanted.label_selector, s.spec.labels)
            ]
        )

    async def _find_sandbox(self, wanted: str) -> SandboxStatus | None:
        known = {s.id: s for s in await self._runtime.list_pod_sandboxes()}
        found = of_prefix(known, wanted)
        return known[SandboxId(found)] if found else None

    async def _sandbox(self, wanted: str) -> SandboxStatus:
        found = await self._find_sandbox(wanted)
        if found is None:
            raise NotFound(f"no sandbox {wanted!r}")
        return found

    # -- containers

    async def create_container(self, request: Any) -> Any:
        sandbox = await self._sandbox(request.pod_sandbox_id)
        spec = container_spec(self._pb, request.config, sandbox.spec.userns)
        return self._pb.CreateContainerResponse(
            container_id=await self._runtime.create_container(sandbox.id, spec)
        )

    async def start_container(self, request: Any) -> Any:
        await self._runtime.start_container((await self._container(request.container_id)).id)
        return self._pb.StartContainerResponse()

    async def stop_container(self, request: Any) -> Any:
        if (found := await self._find_container(request.container_id)) is not None:
            await self._runtime.stop_container(found.id, float(request.timeout))
        return self._pb.StopContainerResponse()

    async def remove_container(self, request: Any) -> Any:
        if (found := await self._find_container(request.container_id)) is not None:
            await self._runtime.remove_container(found.id)
            self._stats.forget(found.id)
        return self._pb.RemoveContainerResponse()

    async def list_containers(self, request: Any) -> Any:
        pb, wanted = self._pb, request.filter
        state = wanted.state.state if wanted.HasField("state") else None
        return pb.ListContainersResponse(
            containers=[
                render.container(pb, c)
                for c in await self._runtime.list_containers()
                if c.id.startswith(wanted.id)
                and c.sandbox_id.startswith(wanted.pod_sandbox_id)
                and state in (None, render.container_state(pb, c.state))
                and selects(wanted.label_selector, c.spec.labels)
            ]
        )

    async def container_status(self, request: Any) -> Any:
        status = await self._container(request.container_id)
        return self._pb.ContainerStatusResponse(status=render.container_status(self._pb, status))

    async def update_container_resources(self, request: Any) -> Any:
        found = await self._container(request.container_id)
        await self._runtime.update_container_resources(found.id, resources(request.linux, "linux"))
        return self._pb.UpdateContainerResourcesResponse()

    async def reopen_container_log(self, request: Any) -> Any:
        found = await self._running(request.container_id)
        await self._runtime.reopen_container_log(found.id)
        return self._pb.ReopenContainerLogResponse()

    async def _find_container(self, wanted: str) -> ContainerStatus | None:
        known = {c.id: c for c in await self._runtime.list_containers()}
        found = of_prefix(known, wanted)
        return known[ContainerId(found)] if found else None

    async def _container(self, wanted: str) -> ContainerStatus:
        found = await self._find_container(wanted)
        if found is None:
            raise NotFound(f"no container {wanted!r}")
        return found

    async def _running(self, wanted: str) -> ContainerStatus:
        found = await self._container(wanted)
        if found.state is not ContainerState.RUNNING:
            raise FailedPrecondition(
                f"container {found.id} is {found.state.value.lower()}, not running"
            )
        return found

    # -- exec, attach, port-forward

    async def exec_sync(self, request: Any) -> Any:
        found = await self._running(request.container_id)
        result = await self._runtime.exec_sync(
            found.id, tuple(request.cmd), float(request.timeout), EXEC_SYNC_MAX
        )
        return self._pb.ExecSyncResponse(
            stdout=result.stdout, stderr=result.stderr, exit_code=result.exit_code
        )

    async def exec(self, request: Any) -> Any:
        found, wanted = await self._running(request.container_id), _wanted(request)
        if not request.cmd:
            raise FailedPrecondition("cmd is empty")
        url = self._streams.exec(found.id, tuple(request.cmd), wanted)
        return self._pb.ExecResponse(url=url)

    async def attach(self, request: Any) -> Any:
        found, wanted = await self._running(request.container_id), _wanted(request)
        return self._pb.AttachResponse(url=self._streams.attach(found.id, wanted))

    async def port_forward(self, request: Any) -> Any:
        found = await self._sandbox(request.pod_sandbox_id)
        if found.state is not SandboxState.READY:
            raise FailedPrecondition(f"sandbox {found.id} is not ready")
        return self._pb.PortForwardResponse(url=self._streams.port_forward(found.id))

    # -- statistics

    async def container_stats(self, request: Any) -> Any:
        status = await self._container(request.container_id)
        return self._pb.ContainerStatsResponse(stats=await self._stats.container(self._pb, status))

    async def list_container_stats(self, request: Any) -> Any:
        wanted = request.filter
        found = [
            await self._stats.container(self._pb, c)
            for c in await self._runtime.list_containers()
            if c.state is ContainerState.RUNNING
            and c.id.startswith(wanted.id)
            and c.sandbox_id.startswith(wanted.pod_sandbox_id)
            and selects(wanted.label_selector, c.spec.labels)
        ]
        return self._pb.ListContainerStatsResponse(stats=found)

    async def pod_sandbox_stats(self, request: Any) -> Any:
        status = await self._sandbox(request.pod_sandbox_id)
        return self._pb.PodSandboxStatsResponse(stats=await self._sandbox_stats(status))

    async def list_pod_sandbox_stats(self, request: Any) -> Any:
        wanted = request.filter
        found = [
            await self._sandbox_stats(s)
            for s in await self._runtime.list_pod_sandboxes()
            if s.state is SandboxState.READY
            and s.id.startswith(wanted.id)
            and selects(wanted.label_selector, s.spec.labels)
        ]
        return self._pb.ListPodSandboxStatsResponse(stats=found)

    async def _sandbox_stats(self, status: SandboxStatus) -> Any:
        members = [
            c
            for c in await self._runtime.list_containers()
            if c.sandbox_id == status.id and c.state is ContainerState.RUNNING
        ]
        return await self._stats.sandbox(self._pb, status, members)

    # -- events

    async def get_container_events(self, _: Any) -> AsyncIterator[Any]:
        """Stream what happens from now on, each with the sandbox as it is then. None comes first: "now" has begun."""
        waiting: asyncio.Queue[RuntimeEvent] = asyncio.Queue(EVENTS_BEHIND)
        lost = False

        def arrived(event: RuntimeEvent) -> None:
            nonlocal lost
            if event.type in EVENTS and not lost:
                try:
                    waiting.put_nowait(event)
                except asyncio.QueueFull:
                    lost = True

        unsubscribe = self._runtime.subscribe(arrived)
        try:
            yield None
            while not lost:
                yield await self._event(await waiting.get())
        finally:
            unsubscribe()

    async def _event(self, event: RuntimeEvent) -> Any:
        pb = self._pb
        sandbox = await self._find_sandbox(event.sandbox_id)
        containers = [
            render.container_status(pb, c)
            for c in await self._runtime.list_containers()
            if c.sandbox_id == event.sandbox_id
        ]
        return pb.ContainerEventResponse(
            container_id=event.container_id or "",
            container_event_type=getattr(pb, EVENTS[event.type]),
            created_at=time.time_ns(),
            pod_sandbox_status=render.sandbox_status(pb, sandbox) if sandbox else None,
            containers_statuses=containers,
        )


def _wanted(request: Any) -> Wanted:
    """Return which streams a request asks for. Raises FailedPrecondition (the rules of api.proto's comments)."""
    if not (request.stdin or request.stdout or request.stderr):
        raise FailedPrecondition("one of stdin, stdout and stderr must be set")
    if request.tty and request.stderr:
        raise FailedPrecondition("tty and stderr cannot both be set")
    return Wanted(
        stdin=request.stdin, stdout=request.stdout, stderr=request.stderr, tty=request.tty
    )
