"""From a ContainerSpec, the image's config and the sandbox to the Bundle that the supervisor builds. Pure but for
seccomp profiles, which are read here; the image's passwd and group come in as bytes.

The rules are Kubernetes': command replaces the entrypoint (and drops the image's cmd), args replace cmd; env of the spec comes after
the image's; a container that names no user gets the image's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from minipod.errors import ImageError, InvalidSpec
from minipod.image import passwd
from minipod.image.config import ImageConfig
from minipod.linux import credentials, seccomp_json, small_files
from minipod.runtime.state import ContainerRecord, SandboxRecord
from minipod.spec.bundle import Bundle, Process, RootFs
from minipod.spec.codec import dumps, loads
from minipod.spec.container import ContainerSpec, Mount, SeccompMode, Security
from minipod.spec.sandbox import NamespaceMode, UserNamespace

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
SECCOMP_PROFILE_MAX = 1 << 20  # bytes
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What the runtime knows of an image when it builds a container from it."""

    id: str
    ref: str
    config: ImageConfig
    layers: tuple[str, ...]  # overlay lower directories, top first
    digest: str = ""  # "name@sha256:..." of the repository that it was asked for by
    passwd: bytes = b""
    group: bytes = b""
    of_node: bool = False  # no image, but a program of the node's; its owners mean nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where this container's own directories are."""

    directory: str  # record and FIFOs, on the run directory
    storage: str  # upper and work, on the state directory's disk


def build(  # noqa: PLR0913 the two last are rare, and keyword-only
    record: ContainerRecord,
    sandbox: SandboxRecord,
    image: ImageFacts,
    places: Places,
    own: tuple[Mount, ...],
    *,
    target_pid: int = 0,
    fail_at: str = "",
) -> Bundle:
    """Join them. *own* are the runtime's mounts (resolv.conf, hostname). Raises InvalidSpec, ImageError."""
    spec = record.spec
    privileged = spec.security.privileged
    masked = MASKED if spec.security.masked_paths is None else spec.security.masked_paths
    readonly = READONLY if spec.security.readonly_paths is None else spec.security.readonly_paths
    metadata, userns = sandbox.spec.metadata, sandbox.spec.userns
    made = process(spec, image, sandbox.spec.hostname)
    if userns is not None:
        check_ids(made, userns)
    return Bundle(
        id=record.id,
        sandbox_id=record.sandbox_id,
        title=f"{metadata.namespace}/{metadata.name}/{spec.name}",
        directory=places.directory,
        log_path=record.log_path,
        cgroup=record.cgroup,
        resources=spec.resources,
        privileged=privileged,
        rootfs=RootFs(
            lower=image.layers,
            upper=f"{places.storage}/upper",
            work=f"{places.storage}/work",
            mountpoint=f"{places.directory}/rootfs",
            readonly=spec.security.readonly_rootfs,
            mapped=userns is not None and not image.of_node,
        ),
        mounts=in_order(own_mounts_not_shadowed(own, spec.mounts), spec.mounts),
        devices=spec.devices,
        masked_paths=() if privileged else masked,
        readonly_paths=() if privileged else readonly,
        network=sandbox.spec.network,
        ipc=sandbox.spec.ipc,
        pid=pid_mode(sandbox, target_pid),
        process=made,
        target_pid=target_pid,
        userns=userns,
        fail_at=fail_at,
        cause=spec.cause,
    )


def check_ids(process: Process, userns: UserNamespace) -> None:
    """Raise InvalidSpec for an id that the pod's user namespace does not have."""
    for name, number in (
        ("runAsUser", process.uid),
        ("runAsGroup", process.gid),
        *(("supplementalGroups", g) for g in process.groups),
    ):
        if number >= userns.length:
            words = f"{number} is not in the pod's user namespace (0 to {userns.length - 1})"
            raise InvalidSpec(
                words, path=f"securityContext.{name}", hint="hostUsers: true has all ids"
            )


def pid_mode(sandbox: SandboxRecord, target_pid: int) -> NamespaceMode:
    """Return the node's, another process', or one of its own (the pod's pid 1 makes the pod's that way)."""
    if target_pid:
        return NamespaceMode.TARGET
    of_node = sandbox.spec.pid is NamespaceMode.NODE
    return NamespaceMode.NODE if of_node else NamespaceMode.CONTAINER


def write(bundle: Bundle) -> None:
    """Write the record of what is to be built, before it is asked for."""
    small_files.replace(f"{bundle.directory}/bundle.json", dumps(bundle))


def read(directory: str) -> Bundle:
    """Read it back: an exec takes its rights from here, never from its caller."""
    with open(f"{directory}/bundle.json", "rb") as f:
        return loads(Bundle, f.read())


def own_mounts_not_shadowed(own: tuple[Mount, ...], asked: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Drop a mount of ours where the spec has one at the same place."""
    taken = {m.container_path.rstrip("/") for m in asked}
    return tuple(m for m in own if m.container_path not in taken)


def in_order(own: tuple[Mount, ...], asked: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Ours first, unless what is asked for would cover them: a volume at /etc gets its resolv.conf, as with containerd."""
    above = tuple(m.container_path.rstrip("/") + "/" for m in asked)
    if any(m.container_path.startswith(above) for m in own):
        return in_path_order((*own, *asked))
    return (*own, *in_path_order(asked))


def in_path_order(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """Parents before children, whatever the order in the manifest."""
    return tuple(sorted(mounts, key=lambda m: m.container_path.rstrip("/").count("/")))


def process(spec: ContainerSpec, image: ImageFacts, hostname: str) -> Process:
    """Return the container's main process."""
    argv = command(spec, image.config)
    user = resolve_user(spec.security, image)
    env = environment(spec, image.config, hostname, home=user.home)
    return Process(
        argv=argv,
        env=env,
        cwd=spec.working_dir or image.config.working_dir or "/",
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        capabilities=capabilities(spec.security),
        no_new_privs=spec.security.no_new_privs,
        seccomp=spec.security.seccomp,
        seccomp_profile=seccomp_profile(spec.security),
        apparmor="" if spec.security.privileged else spec.security.apparmor,
        rlimits=spec.rlimits,
        oom_score_adj=spec.oom_score_adj,
        tty=spec.tty,
        stdin=spec.stdin,
        stdin_once=spec.stdin_once,
    )


def command(spec: ContainerSpec, config: ImageConfig) -> tuple[str, ...]:
    """Return argv by Kubernetes' table of command and args over entrypoint and cmd."""
    entrypoint = spec.command or config.entrypoint
    args = spec.args or (() if spec.command else config.cmd)
    argv = (*entrypoint, *args)
    if not argv:
        raise ImageError("no command specified", reason="CreateContainerError")
    return argv


def environment(
    spec: ContainerSpec, config: ImageConfig, hostname: str, *, home: str
) -> tuple[str, ...]:
    """Return the environment: defaults, the image's, then the spec's; a later one replaces."""
    variables = dict([DEFAULT_PATH.split("=", 1)])
    if spec.tty:
        variables["TERM"] = "xterm"
    variables["HOSTNAME"] = hostname
    variables["HOME"] = home
    variables.update(entry.partition("=")[::2] for entry in config.env)
    variables.update(spec.envs)
    return tuple(f"{name}={value}" for name, value in variables.items())


def resolve_user(security: Security, image: ImageFacts) -> passwd.User:
    """Return numbers for the wanted user, by the image's own passwd and group: never the host's."""
    wanted = security.run_as_username or image.config.user or "0"
    if security.run_as_user is not None:
        wanted = str(security.run_as_user)
    user = passwd.resolve(wanted, image.passwd, image.group)
    gid = user.gid if security.run_as_group is None else security.run_as_group
    of_image = () if security.only_supplemental_groups else user.groups
    if security.run_as_group is not None:
        of_image = of_image[1:]  # the first is the primary group of passwd, which it replaces
    groups = tuple(dict.fromkeys((gid, *of_image, *security.supplemental_groups)))
    return passwd.User(uid=user.uid, gid=gid, groups=groups, home=user.home)


def seccomp_profile(security: Security) -> str:
    """Return the text of a Localhost profile, "" for the other modes. Raises InvalidSpec."""
    if security.privileged or security.seccomp is not SeccompMode.LOCALHOST:
        return ""
    path = security.seccomp_profile
    try:
        with open(path, encoding="utf-8") as f:
            text = f.read(SECCOMP_PROFILE_MAX)
    except OSError as e:
        words = f"cannot load seccomp profile {path!r}: {os.strerror(e.errno or 0).lower()}"
        raise InvalidSpec(words, path="securityContext.seccompProfile") from e
    seccomp_json.check(text)
    return text


def capabilities(security: Security) -> tuple[str, ...]:
    """Return what remains: the default set, plus add, minus drop; all when privileged.

    ALL in either stands for what the others are added to and dropped from; dropped it wins (containerd, pkg/cri; CRI-O).
    """
    known = credentials.NAMES
    if security.privileged:
        return tuple(known)
    added = {_capability(name, known) for name in security.add_capabilities}
    dropped = {_capability(name, known) for name in security.drop_capabilities}
    kept = set(known) if "ALL" in added else set(credentials.DEFAULT)
    if "ALL" in dropped:
        kept = set()
    kept = (kept | (added - {"ALL"})) - (dropped - {"ALL"})
    return tuple(name for name in known if name in kept)


def _capability(name: str, known: tuple[str, ...]) -> str:
    short = name.upper().removeprefix("CAP_")
    if short != "ALL" and short not in known:
        raise InvalidSpec(f"unknown capability {name!r}", path="securityContext.capabilities")
    return short
