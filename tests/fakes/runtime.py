"""A runtime in memory: sandboxes and containers are records, nothing runs. A fake leaf, complete in
its verbs.

`exits` scripts what a container does: name -> exit codes of its instances in order; when the list
is over (or has none) it runs until it is stopped. A stopped container ends at once with 143, or,
when it `ignores` SIGTERM, after its whole grace period with 137.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from minipod.errors import ImageError, MinipodError, NotFound, Unavailable
from minipod.runtime.making import Making
from minipod.runtime.service import (
    ContainerState,
    ContainerStatus,
    CreateBegun,
    EventType,
    ExecResult,
    ImageStatus,
    RuntimeEvent,
    SandboxState,
    SandboxStatus,
)
from minipod.spec.ids import ContainerId, SandboxId
from minipod.spec.sandbox import NamespaceMode, SandboxSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from minipod.spec.container import ContainerSpec


@dataclass
class FakeRuntime:
    """RuntimeService and ImageService."""

    clock: Callable[[], float]
    exits: dict[str, list[int]] = field(default_factory=dict)
    ignores: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=lambda: {"busybox:1.36"})
    fail_start: dict[str, MinipodError] = field(default_factory=dict)
    fail_create: dict[str, MinipodError] = field(default_factory=dict)
    fail_sandbox: list[MinipodError] = field(default_factory=list)  # of the next ones
    sandbox_takes: float = 0.0  # seconds
    exec_results: list[ExecResult] = field(default_factory=list)
    lost: bool = False  # no supervisor: what needs one raises Unavailable
    calls: list[str] = field(default_factory=list)
    sandboxes: dict[str, SandboxStatus] = field(default_factory=dict)
    containers: dict[str, ContainerStatus] = field(default_factory=dict)
    # (container, when its stop was first asked for, SIGKILL)
    kills: list[tuple[str, float, float]] = field(default_factory=list)
    # (container, its sandbox, [(sandbox, container)] that have succeeded by then)
    starts: list[tuple[str, str, list[tuple[str, str]]]] = field(default_factory=list)
    _listeners: list[Callable[[RuntimeEvent], None]] = field(default_factory=list)
    _n: int = 0
    _making: dict[str, Making] = field(default_factory=dict)
    _building: set[str] = field(default_factory=set)
    _succeeded: list[tuple[str, str]] = field(default_factory=list)
    _gone: dict[str, asyncio.Event] = field(default_factory=dict)
    _asked: dict[str, float] = field(default_factory=dict)
    _killers: dict[str, asyncio.TimerHandle] = field(default_factory=dict)

    async def list_container_stats(self):
        return []

    async def update_pod_sandbox_resources(self, sandbox, to):
        self.calls.append(f"resize sandbox {sandbox}")

    async def update_container_resources(self, container, to):
        status = self.containers[container]
        self.containers[container] = replace(status, spec=replace(status.spec, resources=to))
        self.calls.append(f"resize {status.spec.name}")

    def recover(self) -> None:
        """Another supervisor is there."""
        self.lost = False
        for listener in list(self._listeners):
            listener(RuntimeEvent(type=EventType.RECOVERED, sandbox_id=SandboxId("")))

    def _require_supervisor(self) -> None:
        if self.lost:
            raise Unavailable("not connected to the supervisor")

    def subscribe(self, callback):
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def _tell(self, kind: EventType, sandbox: str, container: str | None = None) -> None:
        uid = self.sandboxes[sandbox].spec.metadata.uid
        event = RuntimeEvent(
            type=kind, sandbox_id=SandboxId(sandbox), container_id=container, pod_uid=uid
        )
        for listener in list(self._listeners):
            listener(event)

    def _id(self, prefix: str) -> str:
        self._n += 1
        return f"{prefix}{self._n}"

    async def run_pod_sandbox(self, spec: SandboxSpec, begun=None) -> SandboxId:
        self.calls.append(f"run_pod_sandbox {spec.metadata.name} {spec.metadata.attempt}")
        self._require_supervisor()
        key = self._id("s")
        ips = () if spec.network is NamespaceMode.NODE else (f"10.0.0.{self._n}",)
        status = SandboxStatus(
            id=SandboxId(key),
            spec=spec,
            state=SandboxState.NOTREADY,
            created_at=self.clock(),
            ips=ips,
        )
        making = self._making[key] = Making(SandboxId(key))
        if begun is not None and spec.pid is not NamespaceMode.POD:
            begun(status)
        try:
            await asyncio.sleep(self.sandbox_takes / 2)
            making.pin()
            await asyncio.sleep(self.sandbox_takes / 2)
            error = self.fail_sandbox.pop() if self.fail_sandbox else None
            if error is None:
                self.sandboxes[key] = replace(status, state=SandboxState.READY)
            await making.end(failed=error is not None)
            if error is not None:
                assert key not in {c.sandbox_id for c in self.containers.values()}
                raise error
        finally:
            del self._making[key]
        return SandboxId(key)

    async def stop_pod_sandbox(self, sandbox: SandboxId) -> None:
        self.calls.append("stop_pod_sandbox")
        for container in [c for c in self.containers.values() if c.sandbox_id == sandbox]:
            self._exit(container.id, 137)
        self.sandboxes[sandbox] = replace(
            self.sandboxes[sandbox], state=SandboxState.NOTREADY, ips=()
        )
        self._tell(EventType.SANDBOX_CHANGED, sandbox)

    async def remove_pod_sandbox(self, sandbox: SandboxId) -> None:
        self.calls.append("remove_pod_sandbox")
        for container in [c.id for c in self.containers.values() if c.sandbox_id == sandbox]:
            del self.containers[container]
        self.sandboxes.pop(sandbox, None)

    async def pod_sandbox_status(self, sandbox: SandboxId) -> SandboxStatus:
        return self.sandboxes[sandbox]

    async def list_pod_sandboxes(self, pod_uid: str | None = None) -> list[SandboxStatus]:
        every = self.sandboxes.values()
        return [s for s in every if pod_uid in (None, s.spec.metadata.uid)][::-1]

    async def create_container(
        self, sandbox: SandboxId, spec: ContainerSpec, begun: CreateBegun | None = None
    ) -> ContainerId:
        self._require_supervisor()
        making = self._making.get(sandbox)
        if making is None:
            created = self._create(sandbox, spec)
            if begun is not None:
                begun(created)
            return created
        with making.creating():
            await making.pinned()
            created = self._create(sandbox, spec)
            if begun is not None:
                begun(created)
            self._building.add(created)
            try:
                await making.made()
            except BaseException:
                del self.containers[created]
                raise
            finally:
                self._building.discard(created)
        return created

    def _create(self, sandbox: SandboxId, spec: ContainerSpec) -> ContainerId:
        self.calls.append(f"create_container {spec.name} {spec.attempt}")
        if (error := self.fail_create.get(spec.name)) is not None:
            raise error
        key = self._id("c")
        self.containers[key] = ContainerStatus(
            id=ContainerId(key),
            sandbox_id=sandbox,
            spec=spec,
            image_ref=spec.image,
            image_id="sha256:0",
            state=ContainerState.CREATED,
            created_at=self.clock() + self._n * 1e-6,
        )
        return ContainerId(key)

    async def start_container(self, container: ContainerId) -> None:
        status = self.containers[container]
        self.calls.append(f"start_container {status.spec.name}")
        self.starts.append((status.spec.name, status.sandbox_id, list(self._succeeded)))
        if (error := self.fail_start.get(status.spec.name)) is not None:
            self.containers[container] = replace(
                status,
                state=ContainerState.EXITED,
                exit_code=128,
                reason="StartError",
                message=error.message,
                finished_at=self.clock(),
            )
            raise error
        self.containers[container] = replace(
            status, state=ContainerState.RUNNING, pid=1000, started_at=self.clock()
        )
        self._tell(EventType.CONTAINER_STARTED, status.sandbox_id, container)
        codes = self.exits.get(status.spec.name)
        if codes:
            asyncio.get_running_loop().call_later(1, self._exit, container, codes.pop(0))

    def _exit(self, container: str, code: int) -> None:
        status = self.containers.get(container)
        if status is None or status.state is not ContainerState.RUNNING:
            return
        self.containers[container] = replace(
            status,
            state=ContainerState.EXITED,
            pid=0,
            exit_code=code,
            reason="Error" if code else "Completed",
            finished_at=self.clock(),
        )
        if code == 0:
            self._succeeded.append((status.sandbox_id, status.spec.name))
        self._gone.setdefault(container, asyncio.Event()).set()
        self._tell(EventType.CONTAINER_EXITED, status.sandbox_id, container)

    async def stop_container(self, container: ContainerId, timeout: float) -> None:
        self._require_supervisor()
        status = self.containers.get(container)
        if status is None or status.state is not ContainerState.RUNNING:
            return
        self.calls.append(f"stop_container {status.spec.name} {timeout:g}")
        gone = self._gone.setdefault(container, asyncio.Event())
        if status.spec.name not in self.ignores:
            self._exit(container, 143)
            return
        loop = asyncio.get_running_loop()
        self._asked.setdefault(container, self.clock())
        killer = self._killers.get(container)
        if killer is None or loop.time() + timeout < killer.when():  # a second stop only shortens
            if killer is not None:
                killer.cancel()
            self._killers[container] = loop.call_later(timeout, self._kill, container)
        await gone.wait()

    def _kill(self, container: str) -> None:
        status = self.containers.get(container)
        if status is not None and status.state is ContainerState.RUNNING:
            self.kills.append((status.spec.name, self._asked[container], self.clock()))
        self._exit(container, 137)

    async def remove_container(self, container: ContainerId) -> None:
        if (known := self.containers.get(container)) is not None:
            self.calls.append(f"remove_container {known.spec.name} {known.spec.attempt}")
        self.containers.pop(container, None)

    async def container_status(self, container: ContainerId) -> ContainerStatus:
        if container not in self.containers:
            raise NotFound(f"container {container} not found")
        return self.containers[container]

    async def list_containers(self, pod_uid: str | None = None) -> list[ContainerStatus]:
        ids = {s.id for s in await self.list_pod_sandboxes(pod_uid)}
        found = [c for c in self.containers.values() if c.sandbox_id in ids]
        return [c for c in found if c.id not in self._building][::-1]

    async def exec_sync(self, container, command, timeout, limit=16 << 20) -> ExecResult:
        self.calls.append(f"exec_sync {' '.join(command)}")
        if self.exec_results:
            return self.exec_results.pop(0)
        return ExecResult(stdout=b"", stderr=b"", exit_code=0)

    async def image_status(self, image: str) -> ImageStatus | None:
        if image in self.images:
            return ImageStatus(id="sha256:0", repo_tags=(image,), repo_digests=(), size=1)
        return None

    async def pull_image(self, image: str, auth=None, **_) -> ImageStatus:
        self.calls.append(f"pull_image {image}")
        found = await self.image_status(image)
        if found is None:
            raise ImageError(f"{image}: not found", reason="ErrImagePull")
        return found

    def running(self, name: str) -> ContainerStatus:
        """The running instance of *name*."""
        return next(
            c
            for c in self.containers.values()
            if c.spec.name == name and c.state is ContainerState.RUNNING
        )
