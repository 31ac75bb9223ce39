"""The life of a container: create (parked before execve), start, stop, remove.

Stop sends the stop signal and waits on the end, not on a clock: the event wakes it, and a second stop with less time
shortens it. Remove gives back everything that create made, in any state.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import fields, replace

from minipod import errors
from minipod.aio.trash import Trash
from minipod.cgroups.hierarchy import Hierarchy
from minipod.runtime import bundle as bundles
from minipod.runtime import pod_init
from minipod.runtime.bundle import ImageFacts, Places
from minipod.runtime.held_mounts import HeldMounts
from minipod.runtime.images import Images
from minipod.runtime.making import Making
from minipod.runtime.mountpoints import MountPoints
from minipod.runtime.prepared_roots import PreparedRoots, make_directories
from minipod.runtime.service import ContainerState, CreateBegun, EventType
from minipod.runtime.state import Container, ContainerRecord, SandboxRecord, State
from minipod.runtime.supervisor_client import SupervisorClient
from minipod.spec.bundle import Bundle
from minipod.spec.container import ContainerSpec, Mount, Resources
from minipod.spec.ids import ContainerId, SandboxId
from minipod.spec.instance import Instance
from minipod.spec.sandbox import NamespaceMode
from minipod.supervisor.records import ExitRecord

Tell = Callable[[EventType, Container], None]


class Containers:
    """The verbs that concern containers. *tell* announces what happened."""

    def __init__(
        self,
        instance: Instance,
        state: State,
        supervisor: SupervisorClient,
        hierarchy: Hierarchy,
        images: Images,
        tell: Tell,
    ) -> None:
        self._storage = f"{instance.state_dir}/containers"
        ours = (instance.run_dir, instance.state_dir)
        self.trash = Trash(
            f"{instance.state_dir}/trash/containers", f"{instance.run_dir}/trash/containers"
        )
        self.mounts = HeldMounts()
        self.roots = PreparedRoots(f"{instance.state_dir}/prepared", self.trash)
        self._mount_points = MountPoints(f"{instance.state_dir}/mountpoints", ours)
        self._cgroup_root = instance.cgroup_root
        self._state = state
        self._supervisor = supervisor
        self._hierarchy = hierarchy
        self._images = images
        self._tell = tell

    async def create(
        self,
        sandbox: SandboxRecord,
        spec: ContainerSpec,
        own: tuple[Mount, ...],
        *,
        begun: CreateBegun | None = None,
        fail_at: str = "",
    ) -> ContainerId:
        """Build it, with its sandbox's *own* mounts, up to the parked process; undo everything when a step fails (without a supervisor, at
        the recovery).

        In a sandbox that is still being made it waits for what it needs of it, and until it is ready (`making`). Raises AlreadyExists for a
        second one of the same name and attempt in the sandbox, FailedPrecondition when the sandbox fails. *begun* hears its id when the
        supervisor has been asked: what is asked of it then comes behind that.
        """
        if (making := self._state.making.get(sandbox.id)) is None:
            return await self._create(sandbox, spec, own, begun=begun, fail_at=fail_at)
        with making.creating():
            return await self._create(
                sandbox, spec, own, making=making, begun=begun, fail_at=fail_at
            )

    async def _create(
        self,
        sandbox: SandboxRecord,
        spec: ContainerSpec,
        own: tuple[Mount, ...],
        *,
        making: Making | None = None,
        begun: CreateBegun | None,
        fail_at: str,
    ) -> ContainerId:
        for other in self._state.containers_of(sandbox.id):
            if (other.record.spec.name, other.record.spec.attempt) == (spec.name, spec.attempt):
                raise errors.AlreadyExists(
                    f"container {spec.name} exists, attempt {spec.attempt}",
                    hint="remove it, or count attempt up",
                )
        if spec.name == pod_init.NAME:
            image = await asyncio.to_thread(pod_init.image, self._state.run_dir)
        else:
            image = await self._images.facts(spec.image)
        spec, mounted = await self._with_layers(spec)
        new = ContainerId(uuid.uuid4().hex) if making is None else making.next_id()
        made = replace(self._record(new, sandbox, spec, image), mounted_images=mounted)
        container = self._state.put_container(made)
        self._state.building.add(made.id)
        try:
            await self._images.hold([i for i in (image.id, *mounted) if i])
            bundle = self._bundle(container, sandbox, image, own, fail_at)
            container.pid, created_at = await self._built(bundle, making, begun)
            if making is not None:
                await making.made()
            container.created_at = created_at
        except BaseException:
            if self._supervisor.connected:
                await asyncio.shield(self.remove(made.id))
            raise
        finally:
            self._state.building.discard(made.id)
        self._tell(EventType.CONTAINER_CREATED, container)
        return made.id

    async def _built(
        self, bundle: Bundle, making: Making | None, begun: CreateBegun | None
    ) -> tuple[int, float]:
        """Have the supervisor build it, once the namespaces of its sandbox are there; return its process' pid, and when that was made."""
        bundles.write(bundle)
        root = self._make_storage(bundle)
        try:
            if making is not None:
                await making.pinned()
        except BaseException:
            for fd in root:
                os.close(fd)
            raise
        asked = await self._supervisor.ask("create", id=bundle.id, given=root)
        self.mounts.expect(ContainerId(bundle.id), asked)
        if begun is not None:
            begun(ContainerId(bundle.id))
        answer, _ = await asked
        return int(answer["pid"]), float(answer["created_at"])

    def _record(
        self, container: ContainerId, sandbox: SandboxRecord, spec: ContainerSpec, image: ImageFacts
    ) -> ContainerRecord:
        cgroup = f"{sandbox.spec.cgroup(self._cgroup_root)}/{container}"
        return ContainerRecord(
            id=container,
            sandbox_id=sandbox.id,
            spec=spec,
            image_ref=image.ref,
            image_id=image.id,
            image_digest=image.digest,
            stop_signal=signal_number(spec.stop_signal or image.config.stop_signal),
            cgroup=cgroup,
            log_path=f"{sandbox.spec.log_directory}/{spec.log_path}"
            if spec.log_path
            else "/dev/null",
            asked_at=time.time(),
        )

    def _bundle(
        self,
        container: Container,
        sandbox: SandboxRecord,
        image: ImageFacts,
        own: tuple[Mount, ...],
        fail_at: str,
    ) -> Bundle:
        """Return what the supervisor is to build."""
        record = container.record
        places = Places(
            directory=self._state.container_directory(record.id),
            storage=f"{self._storage}/{record.id}",
        )
        target = 0
        if record.spec.pid_target:
            target = self._state.container(ContainerId(record.spec.pid_target)).pid
        elif sandbox.spec.pid is NamespaceMode.POD and record.spec.name != pod_init.NAME:
            target = pod_init.pid_of(self._state, sandbox.id)
        bundle = bundles.build(
            record, sandbox, image, places, own, target_pid=target, fail_at=fail_at
        )
        if image.of_node:
            return bundle
        lower = self._mount_points.below(bundle.rootfs.lower, bundle.mounts)
        return replace(bundle, rootfs=replace(bundle.rootfs, lower=lower))

    def _make_storage(self, bundle: Bundle) -> tuple[int, ...]:
        """Make the directories that its root writes to; or take some with a root that was mounted before, which is returned."""
        storage, userns = f"{self._storage}/{bundle.id}", bundle.userns
        if userns is None and (root := self.roots.take(bundle.rootfs.lower, storage)) >= 0:
            return (root,)
        make_directories(storage)
        if userns is not None:
            os.chown(f"{storage}/upper", userns.first, userns.first)  # it becomes the root
        return ()

    async def _with_layers(self, spec: ContainerSpec) -> tuple[ContainerSpec, tuple[str, ...]]:
        """Find the layers of image volumes, and the ids of their images. Raises ImageError."""
        if not any(mount.image for mount in spec.mounts):
            return spec, ()
        mounts, ids = [], []
        for mount in spec.mounts:
            if mount.image:
                facts = await self._images.facts(mount.image)
                ids.append(facts.id)
                mounts.append(replace(mount, layers=facts.layers))
            else:
                mounts.append(mount)
        return replace(spec, mounts=tuple(mounts)), tuple(ids)

    async def start(self, container: Container) -> None:
        """Let it execve, when it is created. On SetupFailed the container is EXITED with 128."""
        building = container.record.id in self._state.building
        if not building and container.state is not ContainerState.CREATED:
            raise errors.FailedPrecondition(
                f"container {container.record.id} is {container.state.value.lower()}, not created"
            )
        container.starting = True
        try:
            answer, _ = await self._supervisor.request("start", id=container.record.id)
        except errors.SetupFailed:
            await container.ended.wait()
            raise
        finally:
            container.starting = False
        container.started_at = answer["started_at"]
        self._tell(EventType.CONTAINER_STARTED, container)

    async def stop(self, container: Container, timeout: float) -> None:
        """Stop signal, up to *timeout* seconds, SIGKILL; return when it has ended. Idempotent."""
        loop = asyncio.get_running_loop()
        if container.state is not ContainerState.RUNNING:
            timeout = 0.0  # parked before execve: there is nobody to hear a signal
        deadline = loop.time() + timeout
        if container.stop_at:  # another stop runs: shorten it, and wait with it
            container.stop_at = min(container.stop_at, deadline)
            container.stop_changed.set()
            await container.ended.wait()
            return
        if container.state is not ContainerState.RUNNING:
            await self.kill(container)  # it has no command yet that a signal could tell anything
            return
        container.stop_at = deadline
        try:
            if timeout > 0:
                await self._signal(container, container.record.stop_signal)
            while not container.ended.is_set() and loop.time() < container.stop_at:
                container.stop_changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(container.stop_at):
                        await container.stop_changed.wait()
            await self.kill(container)
        finally:
            container.stop_at = 0.0

    async def kill(self, container: Container) -> None:
        """Kill whatever is in its cgroup, and wait for its end."""
        if container.ended.is_set():
            return
        if container.pid == 0:
            container.finish(
                ExitRecord(code=137, finished_at=time.time(), reason="ContainerStatusUnknown")
            )
            return
        await self._signal(container, signal.SIGKILL)
        await asyncio.to_thread(self._hierarchy.kill, container.record.cgroup)
        await container.ended.wait()

    async def _signal(self, container: Container, number: int) -> None:
        with contextlib.suppress(errors.NotFound):
            await self._supervisor.request("signal", id=container.record.id, signal=number)

    async def remove(self, container: ContainerId) -> None:
        """Kill, forget, and remove cgroup and directories. Idempotent."""
        if (known := self._state.containers.get(container)) is not None:
            await self.remove_all([known])

    async def remove_all(self, all_: list[Container], above: tuple[str, ...] = ()) -> None:
        """Remove containers, and the cgroups *above* them when theirs are gone."""
        if alive := [c for c in all_ if c.pid and not c.ended.is_set()]:
            await asyncio.gather(*(self.kill(container) for container in alive))
        left = await self._forget_all(all_, above)
        ids = [container.record.id for container in all_]
        if left or not self._put_away(ids):
            await asyncio.to_thread(self.remove_traces, ids, left)
        for known in all_:
            self.mounts.release(known.record.id)
            self._state.drop_container(known.record.id)
            known.drained.set()
            if known.created_at:  # nobody has heard of one whose creation failed: news would make its pod try again at once
                self._tell(EventType.CONTAINER_REMOVED, known)

    async def _forget_all(self, all_: list[Container], above: tuple[str, ...]) -> list[str]:
        """Have the supervisor drop them and remove cgroups, beside what we do; return those that it could not."""
        if not all_:
            return list(above)
        *others, last = all_
        left = await asyncio.gather(*(self._forget(container, ()) for container in others))
        left.append(await self._forget(last, above))
        return [cgroup for some in left for cgroup in some]

    async def _forget(self, container: Container, above: tuple[str, ...]) -> list[str]:
        record, ask = container.record, self._supervisor.request
        cgroups = [record.cgroup, *above]
        try:
            answer, _ = await ask("forget", id=record.id, cgroups=cgroups)
        except errors.FailedPrecondition:
            # Started while it was being created, and given up before that was heard.
            await asyncio.to_thread(self._hierarchy.kill, record.cgroup)
            await container.ended.wait()
            answer, _ = await ask("forget", id=record.id, cgroups=cgroups)
        left: list[str] = answer["left"]
        return left

    def _traces(self, container: ContainerId) -> tuple[str, str]:
        """Return its directories; the record, which owns the other one, is in the last."""
        return f"{self._storage}/{container}", self._state.container_directory(container)

    def _put_away(self, containers: Iterable[ContainerId]) -> bool:
        """Have the directories out of sight without waiting; return whether that worked."""
        return all(self.trash.move(path) for c in containers for path in self._traces(c))

    def remove_traces(self, containers: Iterable[ContainerId], cgroups: Iterable[str]) -> None:
        """Remove cgroups, children first, with what runs in them, and the directories with the records, by way of the trash.

        In a thread; idempotent.
        """
        for cgroup in cgroups:
            self._hierarchy.kill(cgroup)
            self._hierarchy.remove(cgroup)
        for container in containers:
            for path in self._traces(container):
                self.trash.put(path)

    async def update_resources(self, container: Container, to: Resources) -> None:
        """Write new limits, and remember them; what *to* does not give stays as it was."""
        await asyncio.to_thread(self._hierarchy.update, container.record.cgroup, to)
        given = {
            f.name: v for f in fields(to) if (v := getattr(to, f.name)) not in (None, "", {}, False)
        }
        spec = container.record.spec
        changed = replace(spec, resources=replace(spec.resources, **given))
        self._state.change_container(container, replace(container.record, spec=changed))

    async def stop_all(self, sandbox: SandboxId) -> None:
        """Kill every container of a sandbox."""
        if alive := [c for c in self._state.containers_of(sandbox) if not c.ended.is_set()]:
            await asyncio.gather(*(self.stop(c, 0) for c in alive))


def signal_number(name: str) -> int:
    """Return the number for "SIGTERM", "TERM", "15", "SIGRTMIN+3" or "SIGRTMAX-1"; SIGTERM for ""."""
    if not name:
        return signal.SIGTERM
    if name.isdigit():
        return int(name)
    bare = name.upper().removeprefix("SIG")
    if (found := re.fullmatch(r"RTM(IN\+|AX-)(\d+)", bare)) is not None:
        n = int(found[2])
        return signal.SIGRTMIN + n if found[1] == "IN+" else signal.SIGRTMAX - n
    try:
        return signal.Signals[f"SIG{bare}"]
    except KeyError:
        raise errors.InvalidSpec(f"unknown signal {name!r}") from None
