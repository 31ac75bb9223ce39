"""The runtime as one object: `RuntimeService` and `ImageService` over the parts, and the events between them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

from minipod import errors
from minipod.cgroups.hierarchy import Hierarchy
from minipod.image.registry.progress import Tell, quiet
from minipod.image.store import ImageStore
from minipod.network.network import Network
from minipod.runtime import pod_init, port_forward
from minipod.runtime.attach import Attachments
from minipod.runtime.container import Containers
from minipod.runtime.exec import Execs
from minipod.runtime.idle import Idle, Work
from minipod.runtime.images import Images
from minipod.runtime.oom import OomKill, OomWatch
from minipod.runtime.recover import Recovery
from minipod.runtime.sandbox import Sandboxes
from minipod.runtime.service import (
    Begun,
    ContainerState,
    ContainerStats,
    ContainerStatus,
    CreateBegun,
    EventType,
    ExecResult,
    ExecSession,
    ImageStatus,
    RuntimeEvent,
    SandboxStatus,
)
from minipod.runtime.state import Container, State, sandbox_status
from minipod.runtime.supervisor_client import SupervisorClient
from minipod.spec.container import ContainerSpec, Resources
from minipod.spec.ids import ContainerId, SandboxId
from minipod.spec.instance import Instance
from minipod.spec.registry import ANONYMOUS, AuthConfig
from minipod.spec.sandbox import NamespaceMode, SandboxSpec
from minipod.supervisor.records import ExitRecord

logger = logging.getLogger(__name__)


class Runtime:
    """See `minipod.runtime.service` for what each verb promises."""

    def __init__(
        self,
        instance: Instance,
        hierarchy: Hierarchy,
        network: Network,
        store: ImageStore,
        on_lost: Callable[[], None],
    ) -> None:
        self._on_lost = on_lost
        self._network = network
        self._subscribers: list[Callable[[RuntimeEvent], None]] = []
        self._hierarchy = hierarchy
        self.state = State(instance.run_dir)
        self.supervisor = SupervisorClient(
            instance.supervisor_socket, on_event=self._event, on_lost=on_lost
        )
        self.images = Images(store, self.images_in_use, instance.registries)
        self._sandboxes = Sandboxes(instance, self.state, self.supervisor, network, hierarchy)
        self._containers = Containers(
            instance, self.state, self.supervisor, hierarchy, self.images, self._tell
        )
        self._idle = Idle(self._sandboxes.prepared.more, self._containers.roots.more)
        self._execs = Execs(self.supervisor, instance.run_dir)
        self._attachments = Attachments(self.supervisor)
        self._oom = OomWatch(self._oom_killed)
        self._recovery = Recovery(
            instance, self.state, self.supervisor, self._sandboxes, self._containers, network
        )

    async def connect(self) -> None:
        """Connect to the supervisor and find everything again; at start, and when it was lost. Raises Unavailable."""
        self._oom.start()
        self.supervisor.connect()
        await self.supervisor.request("subscribe")
        await self._recovery.run()
        if not self.supervisor.connected:
            raise errors.Unavailable("the supervisor went away during the recovery")
        self._announce(RuntimeEvent(type=EventType.RECOVERED, sandbox_id=SandboxId("")))

    def prepare(self, sandboxes: int) -> None:
        """From now on, make so many sandboxes and root file systems while nobody asks, for the next pods."""
        self._sandboxes.prepared.keep(sandboxes)
        self._containers.roots.keep(sandboxes)
        self._idle.open()

    def also_prepare(self, work: Work) -> None:
        """Have *work* done with that (`runtime.idle`): the caller's own part of what the next pods need."""
        self._idle.add(work)

    async def give_back(self) -> None:
        """Undo what was prepared. Idempotent."""
        await self._idle.close()
        await self._sandboxes.prepared.close()
        await self._containers.roots.close()

    def close(self) -> None:
        self._oom.close()
        self.supervisor.close()
        self._sandboxes.close()
        self._containers.mounts.close()

    def subscribe(self, callback: Callable[[RuntimeEvent], None]) -> Callable[[], None]:
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    # -- sandboxes

    async def run_pod_sandbox(self, spec: SandboxSpec, begun: Begun | None = None) -> SandboxId:
        shares_pid = spec.pid is NamespaceMode.POD  # its pid 1 must be there before the others
        with self._idle.busy():
            made = await self._sandboxes.run(spec, None if shares_pid else begun)
        if shares_pid:
            self.state.building.add(made)
            try:
                await self._start_pod_init(made)
            except BaseException:
                if self.supervisor.connected:  # else the recovery finds it without its pid 1
                    await asyncio.shield(self.remove_pod_sandbox(made))
                raise
            finally:
                self.state.building.discard(made)
        return made

    async def _start_pod_init(self, sandbox: SandboxId) -> None:
        record = self.state.sandbox(sandbox)
        init = await self._containers.create(record, pod_init.SPEC, ())
        await self._containers.start(self.state.container(init))

    async def stop_pod_sandbox(self, sandbox: SandboxId) -> None:
        if sandbox in self.state.sandboxes:
            await self._containers.stop_all(sandbox)
            await self._sandboxes.stop(sandbox)

    async def remove_pod_sandbox(self, sandbox: SandboxId) -> None:
        with self._idle.busy():
            # Its containers first: the address may have another owner then.
            await self._containers.stop_all(sandbox)
            cgroup = self._sandboxes.own_cgroup(sandbox)
            await asyncio.gather(
                self._containers.remove_all(self.state.containers_of(sandbox), cgroup),
                self._sandboxes.stop(sandbox),
            )
            await self._sandboxes.remove(sandbox, bare=bool(cgroup))

    async def pod_sandbox_status(self, sandbox: SandboxId) -> SandboxStatus:
        return sandbox_status(self.state.sandbox(sandbox))

    async def list_pod_sandboxes(self, pod_uid: str | None = None) -> list[SandboxStatus]:
        state = self.state
        known = state.sandboxes.values() if pod_uid is None else state.sandboxes_of(pod_uid)
        found = [sandbox_status(r) for r in known if r.ready or r.stopped]
        return sorted(found, key=lambda s: (s.spec.metadata.attempt, s.created_at), reverse=True)

    # -- containers

    async def create_container(
        self,
        sandbox: SandboxId,
        spec: ContainerSpec,
        begun: CreateBegun | None = None,
    ) -> ContainerId:
        record = self.state.sandbox(sandbox)
        if not record.ready and sandbox not in self.state.making:
            raise errors.FailedPrecondition(f"sandbox {sandbox} is not ready")
        own = self._sandboxes.own_mounts(record)
        with self._idle.busy():
            return await self._containers.create(record, spec, own, begun=begun)

    async def start_container(self, container: ContainerId) -> None:
        with self._idle.busy():
            await self._containers.start(self.state.container(container))

    async def stop_container(self, container: ContainerId, timeout: float) -> None:
        known = self.state.containers.get(container)
        if known is not None and not known.ended.is_set():
            await self._containers.stop(known, timeout)

    async def remove_container(self, container: ContainerId) -> None:
        await self._containers.remove(container)

    async def container_status(self, container: ContainerId) -> ContainerStatus:
        return self.state.container(container).status()

    async def list_containers(self, pod_uid: str | None = None) -> list[ContainerStatus]:
        found = [c.status() for c in self._listed(pod_uid)]
        return sorted(found, key=lambda s: s.created_at, reverse=True)

    def newest_container(self, pod_uid: str, name: str) -> Container | None:
        """Return the first one of that name that `list_containers` would tell of."""
        found = (c for c in self._listed(pod_uid) if c.record.spec.name == name)
        return max(found, key=lambda c: c.created_at or c.record.asked_at, default=None)

    def _listed(self, pod_uid: str | None) -> Iterator[Container]:
        state = self.state
        known = state.containers.values() if pod_uid is None else state.containers_of_pod(pod_uid)
        for container in known:
            if (
                container.record.spec.name != pod_init.NAME
                and container.state is not ContainerState.UNKNOWN
                and container.record.id not in state.building
            ):
                yield container

    async def list_container_stats(self) -> list[ContainerStats]:
        running = [c for c in self.state.containers.values() if c.state is ContainerState.RUNNING]
        return await asyncio.to_thread(self._stats, [(c, self._pod_uid(c)) for c in running])

    def _stats(self, running: list[tuple[Container, str]]) -> list[ContainerStats]:
        found = []
        for container, uid in running:
            record = container.record
            try:
                used = self._hierarchy.stats(record.cgroup)
            except OSError:
                continue  # it has ended meanwhile
            found.append(
                ContainerStats(
                    id=record.id,
                    pod_uid=uid,
                    name=record.spec.name,
                    cpu_ns=used.get("cpu_ns", 0),
                    memory=used.get("memory", 0),
                    working_set=used.get("working_set", 0),
                    processes=used.get("pids", 0),
                )
            )
        return found

    async def update_pod_sandbox_resources(self, sandbox: SandboxId, to: Resources) -> None:
        await self._sandboxes.update_resources(self.state.sandbox(sandbox), to)

    async def update_container_resources(self, container: ContainerId, to: Resources) -> None:
        await self._containers.update_resources(self.state.container(container), to)

    async def reopen_container_log(self, container: ContainerId) -> None:
        await self.supervisor.request("reopen", id=container)

    def log_finished(self, container: ContainerId) -> bool:
        """Whether nothing more can come into its log: ended and drained, or gone."""
        known = self.state.containers.get(container)
        return known is None or (known.ended.is_set() and known.drained.is_set())

    async def log_drained(self, container: ContainerId) -> None:
        """Wait until nothing more can come into its log."""
        if (known := self.state.containers.get(container)) is not None:
            await known.ended.wait()
            await known.drained.wait()

    # -- exec, attach

    async def exec_sync(
        self,
        container: ContainerId,
        command: tuple[str, ...],
        timeout: float,
        limit: int = 16 << 20,
    ) -> ExecResult:
        return await self._execs.sync(self.state.container(container), command, timeout, limit)

    async def exec(
        self, container: ContainerId, command: tuple[str, ...], *, tty: bool, stdin: bool
    ) -> ExecSession:
        return await self._execs.start(
            self.state.container(container), command, tty=tty, stdin=stdin
        )

    async def exec_wait(self, session: str) -> int:
        return await self._execs.wait(session)

    async def exec_resize(self, session: str, rows: int, columns: int) -> None:
        if session in self._attachments:
            self._attachments.resize(session, rows, columns)
        else:
            await self._execs.resize(session, rows, columns)

    async def exec_kill(self, session: str, signal: int) -> None:
        await self._execs.kill(session, signal)

    async def attach(self, container: ContainerId, *, stdin: bool) -> ExecSession:
        return await self._attachments.attach(self.state.container(container), stdin=stdin)

    async def attach_wait(self, session: str) -> None:
        await self._attachments.wait(session)

    async def close_stdin(self, session: str) -> None:
        if session in self._attachments:
            await self._attachments.close_stdin(session)

    async def detach(self, session: str) -> None:
        await self._attachments.detach(session)

    async def port_forward(self, sandbox: SandboxId, port: int) -> socket.socket:
        running = [
            c for c in self.state.containers_of(sandbox) if c.state is ContainerState.RUNNING
        ]
        return await port_forward.connect(self.state.sandbox(sandbox), running, self._network, port)

    # -- images

    async def image_status(self, image: str) -> ImageStatus | None:
        return await self.images.image_status(image)

    async def list_images(self) -> list[ImageStatus]:
        return await self.images.list_images()

    async def pull_image(
        self,
        image: str,
        auth: AuthConfig = ANONYMOUS,
        *,
        platform: str = "",
        tell: Tell = quiet,
    ) -> ImageStatus:
        return await self.images.pull_image(image, auth, platform=platform, tell=tell)

    async def remove_image(self, image: str) -> None:
        with self._idle.busy():  # a root that was prepared of it goes behind it
            await self.images.remove_image(image)

    def images_in_use(self) -> set[str]:
        """Return the ids of images that containers are made from or have mounted. Any thread may ask."""
        records = [c.record for c in list(self.state.containers.values())]
        return {image for r in records for image in (r.image_id, *r.mounted_images)}

    # -- events

    def _event(self, event: dict[str, Any], fds: list[int]) -> None:
        """The supervisor says that something happened."""
        kind = event["event"]
        if kind == "console":
            self._execs.opened(event["id"], fds[0])
            return
        container = self.state.containers.get(ContainerId(event["id"]))
        if container is None:
            return
        if (
            container.starting
        ):  # who waits for its start has his turn first: that it has started is told before its end
            asyncio.get_running_loop().call_soon(self._happened, container, event)
        else:
            self._happened(container, event)

    def _happened(self, container: Container, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "exited":
            container.finish(
                ExitRecord(**{k: v for k, v in event.items() if k not in ("event", "id")})
            )
            if container.record.spec.name == pod_init.NAME:
                self._sandboxes.lost(container.record.sandbox_id)
            self._tell(EventType.CONTAINER_EXITED, container)
            self._containers.mounts.release(container.record.id)
        elif kind == "drained":
            container.drained.set()
            self._tell(EventType.CONTAINER_LOG_COMPLETE, container)
        elif kind == "log_full":
            self._tell(EventType.CONTAINER_LOG_FULL, container)

    def _oom_killed(self, kill: OomKill) -> None:
        """The kernel killed a process for memory: in which container?"""
        for part in reversed(kill.cgroup.split("/")):
            container = self.state.containers.get(ContainerId(part))
            if container is not None:
                if kill.pid != container.pid:  # else its exit says it all
                    detail = f"Killed process {kill.pid} ({kill.process})"
                    self._tell(EventType.CONTAINER_OOM, container, detail)
                return

    def _tell(self, kind: EventType, container: Container, detail: str = "") -> None:
        event = RuntimeEvent(
            type=kind,
            sandbox_id=container.record.sandbox_id,
            container_id=container.record.id,
            pod_uid=self._pod_uid(container),
            detail=detail,
        )
        self._announce(event)

    def _announce(self, event: RuntimeEvent) -> None:
        for callback in list(self._subscribers):
            callback(event)

    def _pod_uid(self, container: Container) -> str:
        sandbox = self.state.sandboxes.get(container.record.sandbox_id)
        return "" if sandbox is None else sandbox.spec.metadata.uid
