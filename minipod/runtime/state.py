"""What the runtime knows: records on the run directory's tmpfs, and the status derived from them.

    <run_dir>/sandboxes/<id>.json              SandboxRecord, rewritten when the address or state changes
    <run_dir>/containers/<id>/container.json   ContainerRecord, written once, before anything is built
    <run_dir>/containers/<id>/{state,exit}.json    the supervisor's part (minipod.supervisor.records)

A record precedes every resource; what no record owns is removed at recovery. State is derived, never stored. Who looks for what belongs
to one pod does not pass all the others: an index leads from the pod to its sandboxes, and from these to their containers.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TypeVar

from minipod.aio.flags import Flag
from minipod.errors import NotFound
from minipod.linux import small_files
from minipod.runtime.making import Making
from minipod.runtime.service import (
    ContainerState,
    ContainerStatus,
    SandboxState,
    SandboxStatus,
)
from minipod.spec.codec import dumps, loads
from minipod.spec.container import ContainerSpec
from minipod.spec.ids import ContainerId, SandboxId
from minipod.spec.sandbox import SandboxSpec
from minipod.supervisor import records
from minipod.supervisor.records import ExitRecord

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRecord:
    id: SandboxId
    spec: SandboxSpec
    created_at: float
    ready: bool = False
    stopped: bool = False  # it was ready once
    ips: tuple[str, ...] = ()
    namespaces: dict[str, int] = field(default_factory=dict)  # kind -> inode number


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    id: ContainerId
    sandbox_id: SandboxId
    spec: ContainerSpec
    image_ref: str
    image_id: str
    stop_signal: int
    cgroup: str
    log_path: str
    asked_at: float
    image_digest: str = ""
    mounted_images: tuple[str, ...] = ()  # ids of those that its volumes show


@dataclass(slots=True, kw_only=True)
class Container:
    """One container in memory: its record, what happened to it, and who waits for its end."""

    record: ContainerRecord
    pid: int = 0
    created_at: float = 0.0
    # The supervisor has been asked to start it; its answer may be there, and not read yet.
    starting: bool = False
    started_at: float = 0.0
    exit: ExitRecord | None = None
    ended: Flag = field(default_factory=Flag)
    drained: Flag = field(default_factory=Flag)
    stop_at: float = 0.0  # loop time at which a running stop turns into SIGKILL; 0.0 = no stop
    stop_changed: Flag = field(default_factory=Flag)  # by its end, too

    def finish(self, record: ExitRecord) -> None:
        """Note the end. Idempotent."""
        if self.exit is None:
            self.exit = record
        self.ended.set()
        self.stop_changed.set()

    @property
    def state(self) -> ContainerState:
        if self.exit is not None:
            return ContainerState.EXITED
        if self.started_at:
            return ContainerState.RUNNING
        return ContainerState.CREATED if self.pid else ContainerState.UNKNOWN

    def status(self) -> ContainerStatus:
        """Return the CRI's view."""
        record, end = self.record, self.exit
        common = ContainerStatus(
            id=record.id,
            sandbox_id=record.sandbox_id,
            spec=record.spec,
            image_ref=record.image_ref,
            image_id=record.image_id,
            image_digest=record.image_digest,
            state=self.state,
            pid=self.pid if end is None else 0,
            created_at=self.created_at or record.asked_at,
            started_at=self.started_at,
            log_path=record.log_path,
            cgroup=record.cgroup,
        )
        if end is None:
            return common
        return replace(
            common,
            log_complete=self.drained.is_set(),
            finished_at=end.finished_at,
            exit_code=end.code,
            signal=end.signal,
            reason=end.reason or exit_reason(end),
            message=end.message,
            oom_killed=end.oom_killed,
        )


def exit_reason(end: ExitRecord) -> str:
    """Return Kubernetes' word: OOMKilled wants the kernel's count and its signal (kubelet-rules 1.3)."""
    if end.code == 137 and end.oom_killed:
        return "OOMKilled"
    return "Completed" if end.code == 0 else "Error"


class State:
    """The tables, and their files."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self.sandboxes: dict[SandboxId, SandboxRecord] = {}
        self.containers: dict[ContainerId, Container] = {}
        # What a verb of this process is making: no recovery touches it.
        self.building: set[str] = set()
        self.making: dict[SandboxId, Making] = {}  # the sandboxes of these
        self._of_pod: dict[str, dict[SandboxId, None]] = {}  # by pod uid, in order
        self._in_sandbox: dict[SandboxId, dict[ContainerId, None]] = {}

    def sandbox(self, sandbox: SandboxId) -> SandboxRecord:
        try:
            return self.sandboxes[sandbox]
        except KeyError:
            raise NotFound(f"no sandbox {sandbox}") from None

    def container(self, container: ContainerId) -> Container:
        try:
            return self.containers[container]
        except KeyError:
            raise NotFound(f"no container {container}") from None

    def sandboxes_of(self, pod_uid: str) -> list[SandboxRecord]:
        return [self.sandboxes[sandbox] for sandbox in self._of_pod.get(pod_uid, ())]

    def containers_of(self, sandbox: SandboxId) -> list[Container]:
        return [self.containers[container] for container in self._in_sandbox.get(sandbox, ())]

    def containers_of_pod(self, pod_uid: str) -> list[Container]:
        return [c for s in self._of_pod.get(pod_uid, ()) for c in self.containers_of(s)]

    def container_directory(self, container: ContainerId) -> str:
        return f"{self.run_dir}/containers/{container}"

    def put_sandbox(self, record: SandboxRecord) -> None:
        """Write the record, then believe it."""
        small_files.replace(f"{self.run_dir}/sandboxes/{record.id}.json", dumps(record))
        self._know_sandbox(record)

    def _know_sandbox(self, record: SandboxRecord) -> None:
        if (before := self.sandboxes.get(record.id)) is not None:  # it may have been nobody's
            _strike(self._of_pod, before.spec.metadata.uid, record.id)
        self.sandboxes[record.id] = record
        self._of_pod.setdefault(record.spec.metadata.uid, {})[record.id] = None

    def drop_sandbox(self, sandbox: SandboxId) -> None:
        if (record := self.sandboxes.pop(sandbox, None)) is not None:
            _strike(self._of_pod, record.spec.metadata.uid, sandbox)
        try:
            os.unlink(f"{self.run_dir}/sandboxes/{sandbox}.json")
        except FileNotFoundError:
            pass

    def put_container(self, record: ContainerRecord) -> Container:
        """Make the container's directory and its record, before anything else of it exists."""
        directory = self.container_directory(record.id)
        os.mkdir(directory, 0o711)
        os.mkdir(f"{directory}/rootfs", 0o755)
        small_files.replace(f"{directory}/container.json", dumps(record))
        return self._know_container(Container(record=record))

    def _know_container(self, container: Container) -> Container:
        record = container.record
        self.containers[record.id] = container
        self._in_sandbox.setdefault(record.sandbox_id, {})[record.id] = None
        return container

    def drop_container(self, container: ContainerId) -> None:
        """Forget it; its files are the caller's to remove. Idempotent."""
        if (known := self.containers.pop(container, None)) is not None:
            _strike(self._in_sandbox, known.record.sandbox_id, container)

    def change_container(self, container: Container, record: ContainerRecord) -> None:
        """Replace a container's record."""
        small_files.replace(f"{self.container_directory(record.id)}/container.json", dumps(record))
        container.record = record

    def load_sandbox(self, name: str) -> SandboxRecord:
        with open(f"{self.run_dir}/sandboxes/{name}", "rb") as f:
            record = loads(SandboxRecord, f.read())
        self._know_sandbox(record)
        return record

    def load_container(self, name: str) -> Container:
        directory = f"{self.run_dir}/containers/{name}"
        with open(f"{directory}/container.json", "rb") as f:
            container = Container(record=loads(ContainerRecord, f.read()))
        if (made := records.read_state(directory)) is not None:
            container.pid = made.pid
            container.created_at, container.started_at = made.created_at, made.started_at
        if (end := records.read_exit(directory)) is not None:
            container.finish(end)
        return self._know_container(container)


def _strike(index: dict[K, dict[V, None]], key: K, value: V) -> None:
    """Take *value* off what *key* leads to, and a key that leads nowhere off the index."""
    found = index[key]
    del found[value]
    if not found:
        del index[key]


def sandbox_status(record: SandboxRecord) -> SandboxStatus:
    """Return the CRI's view."""
    return SandboxStatus(
        id=record.id,
        spec=record.spec,
        state=SandboxState.READY if record.ready else SandboxState.NOTREADY,
        created_at=record.created_at,
        ips=record.ips,
        namespaces=tuple((k, f"{k}:[{n}]") for k, n in sorted(record.namespaces.items())),
    )
