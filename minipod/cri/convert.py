"""CRI configs to specs. Every field is honoured, or refused with its path; unset numbers of proto3 are 0 and mean "not given"."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from minipod.cri.messages import SIGNALS, Messages
from minipod.errors import InvalidSpec
from minipod.linux import apparmor
from minipod.spec.container import (
    ContainerSpec,
    Device,
    Mount,
    Propagation,
    Resources,
    SeccompMode,
    Security,
)
from minipod.spec.sandbox import (
    DnsConfig,
    NamespaceMode,
    PortMapping,
    SandboxMetadata,
    SandboxSpec,
    UserNamespace,
)

HANDLERS: Final = ("", "minipod")  # runtime handlers that we are
PROPAGATIONS: Final = (
    Propagation.PRIVATE, Propagation.HOST_TO_CONTAINER, Propagation.BIDIRECTIONAL,
)  # fmt: skip
SECCOMP: Final = (SeccompMode.RUNTIME_DEFAULT, SeccompMode.UNCONFINED, SeccompMode.LOCALHOST)
NO_LABELS: Final = "SELinux labels are not supported"


def refuse(what: object, path: str, why: str) -> None:
    """Raise InvalidSpec when *what* is given."""
    if what:
        raise InvalidSpec(why, path=path)


# -- sandboxes


def sandbox_spec(pb: Messages, config: Any, log_root: str) -> SandboxSpec:
    """Return what a PodSandboxConfig asks for. Raises InvalidSpec."""
    metadata, linux = config.metadata, config.linux
    for name in ("name", "namespace", "uid"):
        if not getattr(metadata, name):
            raise InvalidSpec("must not be empty", path=f"config.metadata.{name}")
    security = linux.security_context
    _check_sandbox_security(pb, security)
    options = security.namespace_options
    network, ipc, pid = (mode(pb, getattr(options, n)) for n in ("network", "ipc", "pid"))
    dns = config.dns_config if config.HasField("dns_config") else None
    uid = f"{metadata.namespace}_{metadata.name}_{metadata.uid}"
    return SandboxSpec(
        metadata=SandboxMetadata(
            name=metadata.name, namespace=metadata.namespace, uid=metadata.uid, attempt=metadata.attempt
        ),
        hostname=config.hostname or (os.uname().nodename if network is NamespaceMode.NODE else metadata.name),
        log_directory=config.log_directory or f"{log_root}/{uid}",
        # The caller's own cgroup, from the root of the hierarchies; else one of ours.
        cgroup_parent=_cgroup_parent(linux.cgroup_parent) or f"pod{metadata.uid}",
        pod_resources=resources(linux.resources, "config.linux.resources"),
        network=network,
        ipc=ipc,
        pid=pid,
        userns=user_namespace(pb, options, "config.linux.security_context.namespace_options"),
        dns=None if dns is None else DnsConfig(
            servers=tuple(dns.servers), searches=tuple(dns.searches), options=tuple(dns.options)
        ),
        port_mappings=tuple(
            PortMapping(
                protocol=pb.name("Protocol", p.protocol), container_port=p.container_port,
                host_port=p.host_port, host_ip=p.host_ip,
            )
            for p in config.port_mappings
            if p.host_port > 0
        ),
        sysctls=tuple(sorted(linux.sysctls.items())),
        labels=dict(config.labels),
        annotations=dict(config.annotations),
    )  # fmt: skip


def _check_sandbox_security(pb: Messages, security: Any) -> None:
    path = "config.linux.security_context"
    refuse(security.HasField("selinux_options"), f"{path}.selinux_options", NO_LABELS)


def user_namespace(pb: Messages, options: Any, path: str) -> UserNamespace | None:
    """Return the ids of a UserNamespace; None for the node's. Raises InvalidSpec for more than one mapping."""
    given = options.userns_options if options.HasField("userns_options") else None
    if given is None or given.mode == pb.NODE:
        return None
    if given.mode != pb.POD:
        raise InvalidSpec("is neither POD nor NODE", path=f"{path}.userns_options.mode")
    return _mapping(given.uids, given.gids, f"{path}.userns_options.uids")


def _mapping(uids: Any, gids: Any, path: str) -> UserNamespace:
    if len(uids) != 1 or list(uids) != list(gids):
        raise InvalidSpec("must be one mapping, the same for users and groups", path=path)
    (only,) = uids
    if only.container_id != 0 or only.length < 1 or only.host_id < 1:
        raise InvalidSpec("must map ids from 0 on, none of them to the node's root", path=path)
    return UserNamespace(first=only.host_id, length=only.length)


def _apparmor(pb: Messages, given: Any) -> str:
    """Return the profile's name. Who names none gets none, as for an Unconfined one."""
    if given.HasField("apparmor"):
        if given.apparmor.profile_type == pb.Localhost:
            return str(given.apparmor.localhost_ref).removeprefix("localhost/")
        asked = given.apparmor.profile_type == pb.RuntimeDefault
        return apparmor.DEFAULT if asked and apparmor.has_default() else ""
    old = given.apparmor_profile
    if old == "runtime/default":
        return apparmor.DEFAULT if apparmor.has_default() else ""
    refuse(old not in ("", "unconfined") and not old.startswith("localhost/"),
           "config.linux.security_context.apparmor_profile", f"{old!r} is no profile")  # fmt: skip
    return "" if old == "unconfined" else old.removeprefix("localhost/")


def _cgroup_parent(text: str) -> str:
    if text.endswith(".slice"):
        raise InvalidSpec(
            f"{text!r} is a systemd slice", path="config.linux.cgroup_parent",
            hint="set cgroupDriver: cgroupfs (RuntimeConfig says so)",
        )  # fmt: skip
    if text and not text.startswith("/"):
        raise InvalidSpec(f"{text!r} is not absolute", path="config.linux.cgroup_parent")
    if ".." in text.split("/"):
        raise InvalidSpec(f"{text!r} has ..", path="config.linux.cgroup_parent")
    return text.rstrip("/")


def mode(pb: Messages, number: int) -> NamespaceMode:
    """Return a NamespaceMode."""
    return NamespaceMode[pb.name("NamespaceMode", number)]


# -- containers


def container_spec(pb: Messages, config: Any, userns: UserNamespace | None) -> ContainerSpec:
    """Return what a ContainerConfig asks for in a sandbox with the user namespace *userns*. Raises InvalidSpec."""
    if not config.metadata.name:
        raise InvalidSpec("must not be empty", path="config.metadata.name")
    refuse(config.CDI_devices, "config.CDI_devices", "CDI devices are not supported")
    given, linux = config.image, config.linux
    image = given.image or given.user_specified_image
    if not image:
        raise InvalidSpec("must not be empty", path="config.image.image")
    options = linux.security_context.namespace_options
    path = "config.linux.security_context.namespace_options"
    if options.HasField("userns_options") and user_namespace(pb, options, path) != userns:
        raise InvalidSpec("is not that of the sandbox", path=f"{path}.userns_options")
    return ContainerSpec(
        name=config.metadata.name,
        attempt=config.metadata.attempt,
        image=image,
        command=tuple(config.command),
        args=tuple(config.args),
        working_dir=config.working_dir,
        envs=tuple((e.key, _text(e.value)) for e in config.envs),
        mounts=tuple(_mount(m, userns, f"config.mounts[{i}]") for i, m in enumerate(config.mounts)),
        devices=tuple(
            Device(
                host_path=d.host_path, container_path=d.container_path or d.host_path,
                permissions=d.permissions or "rwm",
            )
            for d in config.devices
        ),
        resources=resources(linux.resources, "config.linux.resources"),
        security=security(pb, linux.security_context),
        oom_score_adj=linux.resources.oom_score_adj,
        log_path=config.log_path or f"{config.metadata.name}_{config.metadata.attempt}.log",
        stdin=config.stdin,
        stdin_once=config.stdin_once,
        tty=config.tty,
        stop_signal="" if not config.stop_signal else SIGNALS[config.stop_signal],
        pid_target=options.target_id if options.pid == pb.TARGET else "",
        labels=dict(config.labels),
        annotations=dict(config.annotations),
        cause="config",
    )  # fmt: skip


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else os.fsdecode(value)


def _mount(mount: Any, userns: UserNamespace | None, path: str) -> Mount:
    mapped = bool(mount.uidMappings or mount.gidMappings)
    at = f"{path}.uidMappings"
    if mapped and _mapping(mount.uidMappings, mount.gidMappings, at) != userns:
        raise InvalidSpec("is not the mapping of the sandbox", path=at)
    refuse(mount.mount_options, f"{path}.mount_options", "mount options are not supported")
    refuse(mount.recursive_read_only and not mount.readonly, f"{path}.recursive_read_only",
           "a recursively read-only mount must be readonly, too")  # fmt: skip
    if not mount.container_path.startswith("/"):
        raise InvalidSpec(
            f"{mount.container_path!r} is not absolute", path=f"{path}.container_path"
        )
    if not mount.host_path and not mount.image.image:
        raise InvalidSpec("names no source", path=f"{path}.host_path")
    return Mount(
        host_path=mount.host_path,
        container_path=mount.container_path,
        image=mount.image.image,
        readonly=mount.readonly,
        recursive_readonly=mount.recursive_read_only,
        propagation=PROPAGATIONS[mount.propagation],
        sub_path=mount.image_sub_path,
        mapped=mapped,
        cause=path,
    )


def security(pb: Messages, given: Any) -> Security:
    """Return what a LinuxContainerSecurityContext asks for. Raises InvalidSpec."""
    path = "config.linux.security_context"
    refuse(given.HasField("selinux_options"), f"{path}.selinux_options", NO_LABELS)
    refuse(given.capabilities.add_ambient_capabilities, f"{path}.capabilities.add_ambient_capabilities",
           "ambient capabilities are not supported")  # fmt: skip
    if given.HasField("run_as_group") and not (
        given.HasField("run_as_user") or given.run_as_username
    ):
        raise InvalidSpec("needs run_as_user or run_as_username", path=f"{path}.run_as_group")
    seccomp, profile = _seccomp(pb, given)
    return Security(
        privileged=given.privileged,
        run_as_user=given.run_as_user.value if given.HasField("run_as_user") else None,
        run_as_username=given.run_as_username,
        run_as_group=given.run_as_group.value if given.HasField("run_as_group") else None,
        supplemental_groups=tuple(given.supplemental_groups),
        only_supplemental_groups=given.supplemental_groups_policy == pb.Strict,
        add_capabilities=tuple(given.capabilities.add_capabilities),
        drop_capabilities=tuple(given.capabilities.drop_capabilities),
        no_new_privs=given.no_new_privs,
        readonly_rootfs=given.readonly_rootfs,
        seccomp=seccomp,
        seccomp_profile=profile,
        apparmor=_apparmor(pb, given),
        masked_paths=tuple(given.masked_paths),
        readonly_paths=tuple(given.readonly_paths),
    )


def _seccomp(pb: Messages, given: Any) -> tuple[SeccompMode, str]:
    """Return mode and profile; whoever names none (not a kubelet) gets the default filter."""
    if given.HasField("seccomp"):
        profile = given.seccomp
        return SECCOMP[profile.profile_type], profile.localhost_ref
    old = given.seccomp_profile_path
    if old == "unconfined":
        return SeccompMode.UNCONFINED, ""
    if old.startswith("localhost/"):
        return SeccompMode.LOCALHOST, old.removeprefix("localhost/")
    refuse(old not in ("", "runtime/default", "docker/default"),
           "config.linux.security_context.seccomp_profile_path", f"{old!r} is no profile")  # fmt: skip
    return SeccompMode.RUNTIME_DEFAULT, ""


def resources(given: Any, path: str) -> Resources:
    """Return LinuxContainerResources with our types. Raises InvalidSpec."""
    swap, memory = given.memory_swap_limit_in_bytes, given.memory_limit_in_bytes
    refuse(swap not in (0, -1, memory), f"{path}.memory_swap_limit_in_bytes",
           "swap beyond memory_limit_in_bytes is not supported")  # fmt: skip
    return Resources(
        cpu_shares=given.cpu_shares or None,
        cpu_quota=given.cpu_quota or None,
        cpu_period=given.cpu_period or None,
        memory_limit=memory if memory > 0 else None,
        cpuset_cpus=given.cpuset_cpus,
        cpuset_mems=given.cpuset_mems,
        hugepage_limits={h.page_size: h.limit for h in given.hugepage_limits},
        unified=dict(given.unified),
    )


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether *labels* have everything that a filter's label_selector asks for."""
    return all(labels.get(key) == value for key, value in selector.items())


def of_prefix(ids: Iterable[str], wanted: str) -> str | None:
    """Return the id that *wanted* is, or is the only beginning of; None for none or several."""
    found = [i for i in ids if i.startswith(wanted)] if wanted else []
    return found[0] if len(found) == 1 else None
