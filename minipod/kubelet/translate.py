"""Pod to SandboxSpec, Container to ContainerSpec, runtime statuses to the rules' values.

Kubernetes words end here: below are only specs. Everything a restarted kubelet must know about an
instance (restart count, spec hash, backoff entry) travels in the container's annotations.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minipod.errors import InvalidSpec
from minipod.kubelet.rules import env as env_rules
from minipod.kubelet.rules import qos
from minipod.kubelet.rules.hashing import spec_hash
from minipod.kubelet.rules.observed import Backoff, Instance, Observed, Sandbox, State
from minipod.kubelet.rules.quantity import whole
from minipod.linux import apparmor
from minipod.runtime.service import ContainerStatus, SandboxState, SandboxStatus
from minipod.spec.container import ContainerSpec, Mount, Propagation, SeccompMode, Security
from minipod.spec.sandbox import (
    Bandwidth,
    DnsConfig,
    NamespaceMode,
    PortMapping,
    SandboxMetadata,
    SandboxSpec,
    UserNamespace,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from minipod.kubelet.rules.pods import Container, Pod, Raw
    from minipod.kubelet.volumes.mounted import MountedVolume

UID = "io.kubernetes.pod.uid"
_NAME, _NAMESPACE = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace"
_CONTAINER = "io.kubernetes.container.name"
_HASH = "io.kubernetes.container.hash"
_RESTARTS = "io.kubernetes.container.restartCount"
TERMINATION_FILE = "io.minipod.termination-file"  # host path
TERMINATION_POLICY = "io.kubernetes.container.terminationMessagePolicy"
_BACKOFF = "io.minipod.backoff"
_NAME_MAX = 255  # bytes of a file name
_KILOBIT, _PETABIT = 1000, 1000**5  # what bandwidth.ExtractPodBandwidthResources takes
_PROPAGATION = {
    "": Propagation.PRIVATE,
    "None": Propagation.PRIVATE,
    "HostToContainer": Propagation.HOST_TO_CONTAINER,
    "Bidirectional": Propagation.BIDIRECTIONAL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What one start of a container needs beside the pod."""

    attempt: int
    backoff: Backoff | None
    variables: Mapping[str, str]  # the environment, in order
    volumes: Mapping[str, MountedVolume]  # by name
    extra_mounts: tuple[Mount, ...] = ()
    termination_file: str = ""
    memory_capacity: int = 1
    seccomp_dir: str = ""  # where Localhost profiles are
    pid_target: str = ""  # the container whose pid namespace an ephemeral one joins


def pod_log_directory(log_dir: str, pod: Pod) -> str:
    """Where the kubelet's logs of a pod live: `<namespace>_<name>_<uid>`.

    A pod's name may be longer than what a file's leaves for it: then it is cut, and the uid alone tells pods apart.
    """
    room = _NAME_MAX - len(f"{pod.namespace}__{pod.uid}")
    return f"{log_dir}/{pod.namespace}_{pod.name[:room]}_{pod.uid}"


def sandbox_spec(
    pod: Pod,
    *,
    attempt: int,
    hostname: str,
    log_directory: str,
    dns: DnsConfig | None,
    userns: UserNamespace | None = None,
) -> SandboxSpec:
    """The pod's sandbox; *userns*: the ids of its user namespace, with hostUsers: false."""
    return SandboxSpec(
        metadata=SandboxMetadata(
            name=pod.name, namespace=pod.namespace, uid=pod.uid, attempt=attempt
        ),
        hostname=hostname,
        log_directory=log_directory,
        cgroup_parent=qos.cgroup_path(pod),
        pod_resources=qos.pod_resources(pod),
        network=NamespaceMode.NODE if pod.host_network else NamespaceMode.POD,
        ipc=NamespaceMode.NODE if pod.host_ipc else NamespaceMode.POD,
        pid=_pid_mode(pod),
        userns=userns,
        dns=dns,
        port_mappings=_port_mappings(pod),
        bandwidth=bandwidth(pod),
        sysctls=tuple((s["name"], s["value"]) for s in pod.security_context.get("sysctls") or ()),
        labels={**_strings(pod.labels), **_pod_labels(pod)},
        annotations=_strings(pod.annotations),
    )


def container_spec(pod: Pod, container: Container, start: Start) -> ContainerSpec:
    """One attempt of a container. Raises InvalidSpec (a CreateContainerConfigError)."""
    variables = start.variables
    return ContainerSpec(
        name=container.name,
        attempt=start.attempt,
        image=container.image,
        command=tuple(env_rules.expand(word, variables) for word in container.command),
        args=tuple(env_rules.expand(word, variables) for word in container.args),
        working_dir=container.working_dir,
        envs=tuple(variables.items()),
        mounts=_mounts(container, start, variables),
        resources=qos.container_resources(container),
        security=_security(pod, container, start.seccomp_dir),
        oom_score_adj=qos.oom_score_adj(pod, container, start.memory_capacity),
        log_path=log_path(container, start.attempt),
        stdin=container.stdin,
        stdin_once=container.stdin_once,
        tty=container.tty,
        stop_signal=container.stop_signal,
        pid_target=start.pid_target,
        labels={_CONTAINER: container.name, **_pod_labels(pod)},
        annotations=_annotations(container, start),
        cause=container.cause,
    )


def log_path(container: Container, attempt: int) -> str:
    """Where its log is, below the pod's directory of logs."""
    return f"{container.name}/{attempt}.log"


def observed(
    sandboxes: Iterable[SandboxStatus],
    containers: Iterable[ContainerStatus],
    messages: Mapping[str, str],
) -> Observed:
    """What the runtime reports; *messages* are termination messages by container id."""
    found = sorted(sandboxes, key=lambda s: s.spec.metadata.attempt, reverse=True)
    instances = [_instance(c, messages.get(c.id, "")) for c in containers]
    # By age, not attempt: an attempt whose status was lost starts counting anew.
    instances.sort(key=lambda i: (i.created_at, i.restart_count), reverse=True)
    return Observed(
        sandboxes=tuple(observed_sandbox(s) for s in found), containers=tuple(instances)
    )


def observed_sandbox(status: SandboxStatus) -> Sandbox:
    """One sandbox as the rules see it."""
    return Sandbox(
        id=status.id,
        attempt=status.spec.metadata.attempt,
        ready=status.state is SandboxState.READY,
        host_network=status.spec.network is NamespaceMode.NODE,
        ips=status.ips,
        created_at=status.created_at,
    )


def _instance(status: ContainerStatus, message: str) -> Instance:
    notes = status.spec.annotations
    raw = notes.get(_BACKOFF)
    delay, decided = json.loads(raw) if raw else (0.0, 0.0)
    return Instance(
        name=status.spec.name,
        id=status.id,
        sandbox_id=status.sandbox_id,
        state=State(status.state.value),
        restart_count=int(notes.get(_RESTARTS, status.spec.attempt)),
        spec_hash=notes.get(_HASH, ""),
        image=status.image_ref,
        image_id=status.image_digest or status.image_id,
        created_at=status.created_at,
        started_at=status.started_at,
        finished_at=status.finished_at,
        exit_code=status.exit_code,
        signal=status.signal,
        reason=status.reason,
        message=message or status.message,
        backoff=Backoff(delay=delay, decided_at=decided) if raw else None,
        resources=status.spec.resources,
    )


def _annotations(container: Container, start: Start) -> dict[str, str]:
    notes = {
        _HASH: spec_hash(container),
        _RESTARTS: str(start.attempt),
        TERMINATION_FILE: start.termination_file,
        TERMINATION_POLICY: container.termination_message_policy,
    }
    if start.backoff is not None:
        notes[_BACKOFF] = json.dumps([start.backoff.delay, start.backoff.decided_at])
    return notes


def _pod_labels(pod: Pod) -> dict[str, str]:
    return {_NAME: pod.name, _NAMESPACE: pod.namespace, UID: pod.uid}


def _strings(raw: Raw) -> dict[str, str]:
    return {str(key): str(value) for key, value in raw.items()}


def _pid_mode(pod: Pod) -> NamespaceMode:
    if pod.host_pid:
        return NamespaceMode.NODE
    return NamespaceMode.POD if pod.share_process_namespace else NamespaceMode.CONTAINER


def _port_mappings(pod: Pod) -> tuple[PortMapping, ...]:
    if pod.host_network:
        return ()
    return tuple(
        PortMapping(
            protocol=port.get("protocol", "TCP"),
            container_port=port["containerPort"],
            host_port=port["hostPort"],
            host_ip=port.get("hostIP", ""),
        )
        for container in pod.containers
        for port in container.ports
        if port.get("hostPort")
    )


def bandwidth(pod: Pod) -> Bandwidth:
    """The limits that annotations ask for, in bits a second. Raises InvalidSpec."""
    found = {}
    for direction in ("ingress", "egress"):
        text = pod.annotations.get(f"kubernetes.io/{direction}-bandwidth")
        bits = 0 if text is None else whole(text)
        if text is not None and not _KILOBIT <= bits <= _PETABIT:
            words = "small (< 1kbit)" if bits < _KILOBIT else "large (> 1Pbit)"
            path = f"metadata.annotations[kubernetes.io/{direction}-bandwidth]"
            raise InvalidSpec(f"resource is unreasonably {words}", path=path)
        found[direction] = bits
    return Bandwidth(**found)


def _mounts(container: Container, start: Start, variables: Mapping[str, str]) -> tuple[Mount, ...]:
    mounts = []
    for index, mount in enumerate(container.volume_mounts):
        cause = f"{container.cause}.volumeMounts[{index}]"
        if mount["name"] not in start.volumes:
            raise InvalidSpec(f"volume {mount['name']!r} is not mounted", path=cause)
        volume = start.volumes[mount["name"]]
        sub_path = mount.get("subPath") or _expanded(mount.get("subPathExpr"), variables, cause)
        path = mount["mountPath"]
        mounts.append(
            Mount(
                host_path=volume.path,
                image=volume.image,
                container_path=path if path.startswith("/") else f"/{path}",
                readonly=volume.readonly or bool(mount.get("readOnly")),
                recursive_readonly=mount.get("recursiveReadOnly") in ("Enabled", "IfPossible"),
                propagation=_PROPAGATION[mount.get("mountPropagation") or ""],
                sub_path=sub_path,
                mapped=volume.mapped,
                cause=cause,
            )
        )
    taken = {mount.container_path for mount in mounts}
    return (*mounts, *(m for m in start.extra_mounts if m.container_path not in taken))


def _expanded(expression: str | None, variables: Mapping[str, str], cause: str) -> str:
    """subPathExpr with its variables; one that is not known is an error. Raises InvalidSpec."""
    if not expression:
        return ""
    found, missing = env_rules.expand_known(expression, variables)
    if missing:
        raise InvalidSpec(f"missing value for {missing[0]!r}", path=f"{cause}.subPathExpr")
    if found.startswith("/") or ".." in found.split("/"):
        words = "subPath must be a relative path without '..'"
        raise InvalidSpec(f"{words}: {found!r}", path=f"{cause}.subPathExpr")
    return found


def _security(pod: Pod, container: Container, seccomp_dir: str) -> Security:
    of_pod, own = pod.security_context, container.security_context
    both = {**of_pod, **own}
    capabilities = own.get("capabilities") or {}
    groups = [int(g) for g in of_pod.get("supplementalGroups") or ()]
    if of_pod.get("fsGroup") is not None:
        groups.append(int(of_pod["fsGroup"]))
    privileged = bool(own.get("privileged"))
    profile = both.get("seccompProfile") or {}
    mode = SeccompMode(profile.get("type", "RuntimeDefault"))
    localhost = f"{seccomp_dir}/{profile.get('localhostProfile', '')}"
    return Security(
        privileged=privileged,
        run_as_user=both.get("runAsUser"),
        run_as_group=both.get("runAsGroup"),
        supplemental_groups=tuple(groups),
        only_supplemental_groups=of_pod.get("supplementalGroupsPolicy") == "Strict",
        add_capabilities=tuple(_bare(c) for c in capabilities.get("add") or ()),
        drop_capabilities=tuple(_bare(c) for c in capabilities.get("drop") or ()),
        no_new_privs=own.get("allowPrivilegeEscalation") is False and not privileged,
        readonly_rootfs=bool(own.get("readOnlyRootFilesystem")),
        apparmor=_apparmor(both.get("appArmorProfile") or {}),
        seccomp=SeccompMode.UNCONFINED if privileged else mode,
        seccomp_profile=localhost if mode is SeccompMode.LOCALHOST else "",
        masked_paths=() if own.get("procMount") == "Unmasked" or privileged else None,
        readonly_paths=() if own.get("procMount") == "Unmasked" or privileged else None,
    )


def _apparmor(profile: Raw) -> str:
    """The name of the profile; none where the pod asks for none: like a container that is Unconfined."""
    if profile.get("type") == "RuntimeDefault":
        return apparmor.DEFAULT
    return str(profile.get("localhostProfile") or "")


def _bare(capability: str) -> str:
    return capability.upper().removeprefix("CAP_")
