"""Statuses of the runtime as CRI messages. Times become nanoseconds since the epoch, as int64."""

from __future__ import annotations

from typing import Any

from minipod.cri.messages import SIGNALS, Messages
from minipod.runtime.service import (
    ContainerState,
    ContainerStatus,
    ImageStatus,
    SandboxState,
    SandboxStatus,
)
from minipod.spec.container import Mount, Propagation, Resources
from minipod.spec.sandbox import SandboxSpec

HANDLER = "minipod"


def nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def sandbox_state(pb: Messages, status: SandboxStatus) -> int:
    state: int = pb.SANDBOX_READY if status.state is SandboxState.READY else pb.SANDBOX_NOTREADY
    return state


def container_state(pb: Messages, state: ContainerState) -> int:
    number: int = getattr(pb, f"CONTAINER_{state.value}")
    return number


def _sandbox_metadata(pb: Messages, spec: SandboxSpec) -> Any:
    m = spec.metadata
    return pb.PodSandboxMetadata(name=m.name, uid=m.uid, namespace=m.namespace, attempt=m.attempt)


def sandbox(pb: Messages, status: SandboxStatus) -> Any:
    """PodSandbox, as a list shows it."""
    return pb.PodSandbox(
        id=status.id,
        metadata=_sandbox_metadata(pb, status.spec),
        state=sandbox_state(pb, status),
        created_at=nanoseconds(status.created_at),
        labels=status.spec.labels,
        annotations=status.spec.annotations,
        runtime_handler="",
    )


def sandbox_status(pb: Messages, status: SandboxStatus) -> Any:
    """PodSandboxStatus."""
    spec = status.spec
    network = pb.PodSandboxNetworkStatus()
    if status.ips:
        others = [pb.PodIP(ip=ip) for ip in status.ips[1:]]
        network = pb.PodSandboxNetworkStatus(ip=status.ips[0], additional_ips=others)
    modes = {name: getattr(pb, getattr(spec, name).value) for name in ("network", "ipc", "pid")}
    options = pb.NamespaceOption(**modes)
    if (userns := spec.userns) is not None:
        ids = [pb.IDMapping(host_id=userns.first, container_id=0, length=userns.length)]
        options.userns_options.CopyFrom(pb.UserNamespace(mode=pb.POD, uids=ids, gids=ids))
    namespaces = pb.Namespace(options=options)
    return pb.PodSandboxStatus(
        id=status.id,
        metadata=_sandbox_metadata(pb, spec),
        state=sandbox_state(pb, status),
        created_at=nanoseconds(status.created_at),
        network=network,
        linux=pb.LinuxPodSandboxStatus(namespaces=namespaces),
        labels=spec.labels,
        annotations=spec.annotations,
    )


def container(pb: Messages, status: ContainerStatus) -> Any:
    """Container, as a list shows it."""
    spec = status.spec
    return pb.Container(
        id=status.id,
        pod_sandbox_id=status.sandbox_id,
        metadata=pb.ContainerMetadata(name=spec.name, attempt=spec.attempt),
        image=pb.ImageSpec(image=spec.image),
        image_ref=status.image_id,
        image_id=status.image_id,
        state=container_state(pb, status.state),
        created_at=nanoseconds(status.created_at),
        labels=spec.labels,
        annotations=spec.annotations,
    )


def container_status(pb: Messages, status: ContainerStatus) -> Any:
    """ContainerStatus."""
    spec = status.spec
    signal = SIGNALS.index(spec.stop_signal) if spec.stop_signal in SIGNALS else 0
    return pb.ContainerStatus(
        id=status.id,
        metadata=pb.ContainerMetadata(name=spec.name, attempt=spec.attempt),
        state=container_state(pb, status.state),
        created_at=nanoseconds(status.created_at),
        started_at=nanoseconds(status.started_at),
        finished_at=nanoseconds(status.finished_at),
        exit_code=status.exit_code,
        image=pb.ImageSpec(image=spec.image),
        image_ref=status.image_id,
        image_id=status.image_id,
        reason=status.reason,
        message=status.message,
        labels=spec.labels,
        annotations=spec.annotations,
        mounts=[mount(pb, m) for m in spec.mounts],
        log_path=status.log_path,
        resources=pb.ContainerResources(linux=resources(pb, spec.resources, spec.oom_score_adj)),
        stop_signal=signal,
    )


def mount(pb: Messages, given: Mount) -> Any:
    """Mount."""
    return pb.Mount(
        container_path=given.container_path,
        host_path=given.host_path,
        readonly=given.readonly,
        propagation=list(Propagation).index(given.propagation),
        recursive_read_only=given.recursive_readonly,
        **({"image": pb.ImageSpec(image=given.image)} if given.image else {}),
        image_sub_path=given.sub_path if given.image else "",
    )


def resources(pb: Messages, given: Resources, oom_score_adj: int) -> Any:
    """LinuxContainerResources."""
    return pb.LinuxContainerResources(
        cpu_period=given.cpu_period or 0,
        cpu_quota=given.cpu_quota or 0,
        cpu_shares=given.cpu_shares or 0,
        memory_limit_in_bytes=given.memory_limit or 0,
        oom_score_adj=oom_score_adj,
        cpuset_cpus=given.cpuset_cpus,
        cpuset_mems=given.cpuset_mems,
        hugepage_limits=[
            pb.HugepageLimit(page_size=size, limit=limit)
            for size, limit in given.hugepage_limits.items()
        ],
        unified=given.unified,
    )


def image(pb: Messages, status: ImageStatus) -> Any:
    """Image; its user is a number or a name, as the image's config has it."""
    user = status.user.partition(":")[0]
    who = {"uid": pb.Int64Value(value=int(user))} if user.isdigit() else {"username": user}
    return pb.Image(
        id=status.id,
        repo_tags=status.repo_tags,
        repo_digests=status.repo_digests,
        size=status.size,
        spec=pb.ImageSpec(image=status.id),
        **(who if user else {}),
    )
