"""Start one container: image, spec, create, start, postStart. Each failure has the kubelet's
reason.

startContainer (K8S pkg/kubelet/kuberuntime/kuberuntime_container.go). A failure is a `StartFailed`
that becomes the container's waiting state; nothing is left behind but an exited instance, if it got
that far.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from minipod.errors import ImageError, InvalidSpec, MinipodError
from minipod.kubelet import environment, hooks, logs, pod_status, translate
from minipod.kubelet.addresses import node_facts, pod_ip
from minipod.kubelet.ahead import Ahead, Made
from minipod.kubelet.images import ImagePuller
from minipod.kubelet.rules import restart
from minipod.kubelet.rules.hashing import spec_hash
from minipod.kubelet.rules.observed import State
from minipod.kubelet.rules.pods import default_pull_policy
from minipod.kubelet.rules.status import Waiting
from minipod.kubelet.stopping import Stop
from minipod.kubelet.translate import pod_log_directory
from minipod.spec.container import ContainerSpec, Mount
from minipod.spec.ids import ContainerId, SandboxId

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Mapping

    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.observed import Observed, Sandbox
    from minipod.kubelet.rules.pods import Container, Pod
    from minipod.kubelet.stopping import Stopper
    from minipod.kubelet.volumes import PodDirectory
    from minipod.kubelet.volumes.mounted import MountedVolume
    from minipod.runtime.service import ImageStatus, RuntimeService

logger = logging.getLogger(__name__)

T = TypeVar("T")


class StartFailed(MinipodError):
    """The container did not start; *waiting* is what its status shows."""

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(f"{waiting.reason}: {waiting.message}")
        self.waiting = waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One instance that is to be: of which container, beside what else, with which volumes."""

    pod: Pod
    container: Container
    observed: Observed  # with the sandbox that it goes into
    volumes: Mapping[str, MountedVolume]  # by name
    restart_count: int

    @property
    def sandbox(self) -> Sandbox:
        assert self.observed.sandbox is not None
        return self.observed.sandbox


class EarlyStart:
    """The start of one instance, asked for while that is being created: nobody has to be told between its last step and its execve."""

    def __init__(self, runtime: RuntimeService) -> None:
        self._runtime = runtime
        self._task: asyncio.Task[None] | None = None

    def begin(self, container: ContainerId) -> None:
        """Ask for it: the instance is being created."""
        self._task = asyncio.ensure_future(self._runtime.start_container(container))

    async def done(self, container: ContainerId) -> None:
        """Wait until it has started, asking now where that was not done. Raises as start_container."""
        await (self._task or self._runtime.start_container(container))

    async def give_up(self) -> None:
        """The creation failed, and with it the start: wait for its end. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class Starter:
    """Starts the containers of one pod."""

    def __init__(self, context: Context, directory: PodDirectory, stopper: Stopper) -> None:
        self._context = context
        self._stopper = stopper
        self._directory = directory
        self.puller = ImagePuller(context)
        self.ahead = Ahead(context.runtime)
        self._long_wait: asyncio.Task[None] | None = None
        self._interrupted = False

    def interrupt(self) -> None:
        """End an image pull or a postStart hook, and begin none: the pod is being terminated."""
        self._interrupted = True
        if self._long_wait is not None:
            self._long_wait.cancel()

    def attempt(
        self,
        pod: Pod,
        container: Container,
        observed: Observed,
        volumes: Mapping[str, MountedVolume],
    ) -> Attempt:
        """The next instance of *container*, which has a directory for its log. Raises OSError."""
        log_directory = f"{pod_log_directory(self._context.instance.log_dir, pod)}/{container.name}"
        self._context.spares.make_directory(log_directory, 0o755)
        return Attempt(
            pod=pod,
            container=container,
            observed=observed,
            volumes=volumes,
            restart_count=_restart_count(pod, container, observed, log_directory),
        )

    async def start(self, attempt: Attempt) -> None:
        """Start it in the newest sandbox. Raises StartFailed."""
        pod, container = attempt.pod, attempt.container
        await self._image(pod, container)
        for image in volume_images(pod, container):
            await self._image(pod, image)
        start = EarlyStart(self._context.runtime)
        try:
            if (begun := self.ahead.begun(container)) is not None:
                start.begin(begun)
            created = await self._creation(attempt, self.ahead.take(container))
            if created is None:
                spec = await self._spec(attempt)
                creation = self._context.runtime.create_container(
                    SandboxId(attempt.sandbox.id), spec, start.begin
                )
                created = await self._creation(attempt, creation)
            message = f"Created container {container.name}"
            self._context.recorder.normal(pod, "Created", message, container)
            await self._run(attempt, created, start)
        except BaseException:
            await start.give_up()
            raise
        if container.post_start is not None:
            await self._post_start(attempt, created)

    async def set_up_ahead(self, attempt: Attempt) -> Made | None:
        """Create the instance that `start` will take. None: something is missing, and the start says what. Raises as create_container."""
        container = attempt.container
        try:
            images = (container, *volume_images(attempt.pod, container))
            if not all([await self.puller.usable(image) for image in images]):
                return None
            spec = await self._make_spec(attempt)
        except (MinipodError, OSError):
            return None
        created = await self._context.runtime.create_container(
            SandboxId(attempt.sandbox.id), spec, partial(self.ahead.note, container.name)
        )
        return container.name, created

    async def _long(self, waiting: Coroutine[Any, Any, None]) -> None:
        if self._interrupted:  # during what was done before it
            waiting.close()
            raise StartFailed(Waiting(reason="ContainerCreating"))
        self._long_wait = asyncio.ensure_future(waiting)
        try:
            await asyncio.wait((self._long_wait,))
        except asyncio.CancelledError:
            self._long_wait.cancel()
            raise
        finally:
            task, self._long_wait = self._long_wait, None
        if task.cancelled():
            raise StartFailed(Waiting(reason="ContainerCreating"))
        task.result()

    async def _image(self, pod: Pod, container: Container) -> None:
        try:
            if not await self.puller.present(pod, container):
                await self._long(self.puller.ensure(pod, container))
        except ImageError as error:
            raise StartFailed(Waiting(reason=error.reason, message=error.message)) from error

    async def _spec(self, attempt: Attempt) -> ContainerSpec:
        try:
            return await self._make_spec(attempt)
        except (InvalidSpec, OSError) as error:
            message = error.detail if isinstance(error, InvalidSpec) else str(error)
            raise self._failed(attempt, "CreateContainerConfigError", message) from error

    async def _make_spec(self, attempt: Attempt) -> ContainerSpec:
        pod, container, observed = attempt.pod, attempt.container, attempt.observed
        newest = observed.newest(container.name)
        curve = restart.curve_of(pod.annotations)
        backoff = restart.start_entry(newest, spec_hash(container), self._context.clock(), curve)
        await self._verify_non_root(pod, container)
        facts = node_facts(pod, observed.sandbox, self._context)
        variables = await environment.variables(
            self._context, pod, container, facts, attempt.volumes
        )
        termination = self._directory.new_termination_file(container)
        start = translate.Start(
            attempt=attempt.restart_count,
            backoff=backoff,
            variables=variables,
            volumes=attempt.volumes,
            extra_mounts=self._own_mounts(container, termination),
            termination_file=termination,
            memory_capacity=self._context.machine.memory,
            seccomp_dir=self._context.instance.seccomp_dir,
            pid_target=_target(container, observed),
        )
        return translate.container_spec(pod, container, start)

    def _own_mounts(self, container: Container, termination: str) -> tuple[Mount, ...]:
        path = container.termination_message_path
        hosts = Mount(host_path=self._directory.hosts_path, container_path="/etc/hosts")
        return (hosts, Mount(host_path=termination, container_path=path))

    async def _creation(self, attempt: Attempt, creation: Awaitable[T]) -> T:
        try:
            return await creation
        except ImageError as error:
            raise self._failed(attempt, error.reason, error.message) from error
        except MinipodError as error:
            raise self._failed(attempt, "CreateContainerError", error.message) from error

    async def _run(self, attempt: Attempt, created: ContainerId, start: EarlyStart) -> None:
        try:
            await start.done(created)
        except MinipodError as error:
            raise self._failed(attempt, "RunContainerError", error.message) from error
        pod, container, instance = attempt.pod, attempt.container, self._context.instance
        log_path = translate.log_path(container, attempt.restart_count)
        log = f"{pod_log_directory(instance.log_dir, pod)}/{log_path}"
        try:
            logs.link(instance.log_link_dir, pod, container.name, created, log)
        except OSError as error:  # a convenience for collectors: the container runs without it
            logger.warning("no symlink for %s: %s", log, error)
        message = f"Started container {container.name}"
        self._context.recorder.normal(pod, "Started", message, container)

    async def _post_start(self, attempt: Attempt, created: ContainerId) -> None:
        pod, container, runtime = attempt.pod, attempt.container, self._context.runtime
        assert container.post_start is not None
        ip = pod_ip(pod, attempt.sandbox, self._context)
        try:
            await self._long(hooks.run(container.post_start, container, created, ip, runtime))
        except StartFailed:
            raise  # interrupted: the termination stops the container
        except MinipodError as error:
            message = f"PostStartHook failed: {error.message}"
            self._context.recorder.warning(pod, "FailedPostStartHook", message, container)
            grace = float(pod.termination_grace_period_seconds)
            stop = Stop(grace=grace, message="FailedPostStartHook")
            await self._stopper.stop_container(pod, container, created, ip, stop)
            waiting = Waiting(reason="PostStartHookError", message=error.message)
            raise StartFailed(waiting) from error

    async def _verify_non_root(self, pod: Pod, container: Container) -> None:
        both = {**pod.security_context, **container.security_context}
        if not both.get("runAsNonRoot"):
            return
        who = f'(pod: "{pod.full_name}", container: {container.name})'
        if (user := both.get("runAsUser")) is not None:
            if int(user) == 0:
                raise InvalidSpec(f"container's runAsUser breaks non-root policy {who}")
            return
        refuse_root_image(await self._context.images.image_status(container.image), who)

    def _failed(self, attempt: Attempt, reason: str, message: str) -> StartFailed:
        recorder = self._context.recorder
        recorder.warning(attempt.pod, "Failed", f"Error: {message}", attempt.container)
        return StartFailed(Waiting(reason=reason, message=message))


def _restart_count(pod: Pod, container: Container, observed: Observed, log_directory: str) -> int:
    """That of the next instance: from the newest one, from the status, or from the logs."""
    newest = observed.newest(container.name)
    if newest is not None:
        return newest.restart_count + (newest.state is not State.CREATED)
    old = pod_status.old_statuses(pod).get(container.name)
    if old is not None:
        return old.restart_count
    return logs.next_attempt(log_directory)


def _target(container: Container, observed: Observed) -> str:
    """The id of the container whose processes an ephemeral container sees; "" for none."""
    name = container.target_container_name
    if not name:
        return ""
    target = observed.newest(name)
    if target is None or target.state is not State.RUNNING:
        raise InvalidSpec(f"unable to find target container {name}")
    return target.id


def volume_images(pod: Pod, container: Container) -> list[Container]:
    """Return what must be pulled for image volumes that *container* mounts, each as the container that wants it."""
    mounted = {mount["name"] for mount in container.volume_mounts}
    found = []
    for volume in pod.volumes:
        source = volume.get("image")
        if source and volume["name"] in mounted:
            image = source["reference"]
            policy = source.get("pullPolicy") or default_pull_policy(image)
            found.append(replace(container, image=image, image_pull_policy=policy))
    return found


def refuse_root_image(image: ImageStatus | None, who: str) -> None:
    """verifyRunAsNonRoot for the image's user; *who* ends the message. Raises InvalidSpec."""
    user = (image.user if image is not None else "").partition(":")[0]
    if user and not user.isdigit():
        raise InvalidSpec(
            f"container has runAsNonRoot and image has non-numeric user ({user}), "
            f"cannot verify user is non-root {who}"
        )
    if not user or int(user) == 0:
        raise InvalidSpec(f"container has runAsNonRoot and image will run as root {who}")
