"""A pod as the kubelet's loop reads it: frozen dataclasses compiled from the raw object.

Kubernetes names in snake_case, only the fields that the rules and translation use; the raw object
is kept whole beside them. Assumes a validated, defaulted object (the store holds no other), yet
reads every optional field with its default, so that a rule can be tested with three lines.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from minipod.api import static

Raw = Mapping[str, Any]

CRITICAL = 2_000_000_000  # scheduling.SystemCriticalPriority


class Role(enum.Enum):
    """Which list of the spec a container stands in."""

    INIT = "initContainers"
    APP = "containers"
    EPHEMERAL = "ephemeralContainers"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRule:
    """One of restartPolicyRules: what an exit with one of (or none of) *codes* leads to."""

    action: str  # Restart, RestartAllContainers
    operator: str  # In, NotIn
    codes: frozenset[int]

    def matches(self, exit_code: int) -> bool:
        return (exit_code in self.codes) is (self.operator == "In")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A probe; *handler* is the raw exec, httpGet or tcpSocket part."""

    handler: Raw
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of any role; *cause* is its manifest path."""

    name: str
    role: Role = Role.APP
    restart_policy: str = ""  # "": the pod's
    restart_rules: tuple[RestartRule, ...] = ()
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    ports: tuple[Raw, ...] = ()
    env: tuple[Raw, ...] = ()
    env_from: tuple[Raw, ...] = ()
    resize_policy: Mapping[str, str] = field(default_factory=dict)  # resource -> restart policy
    # Quantities as text; a missing request is the limit.
    requests: Raw = field(default_factory=dict)
    limits: Raw = field(default_factory=dict)
    volume_mounts: tuple[Raw, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    post_start: Raw | None = None
    pre_stop: Raw | None = None
    stop_signal: str = ""  # "": the image's
    target_container_name: str = ""  # of an ephemeral container: whose processes it sees
    termination_message_path: str = "/dev/termination-log"
    termination_message_policy: str = "File"
    image_pull_policy: str = ""
    security_context: Raw = field(default_factory=dict)
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    cause: str = ""
    raw: Raw = field(default_factory=dict)

    @property
    def is_sidecar(self) -> bool:
        """A restartable init container: it runs beside the app containers (KEP-753)."""
        return self.role is Role.INIT and self.restart_policy == "Always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int | None = None
    labels: Raw = field(default_factory=dict)
    annotations: Raw = field(default_factory=dict)
    deletion_timestamp: float | None = None
    deletion_grace_period_seconds: int | None = None
    node_name: str = ""
    restart_policy: str = "Always"
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    ephemeral_containers: tuple[Container, ...] = ()
    volumes: tuple[Raw, ...] = ()
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    host_users: bool = True  # False: a user namespace of its own
    os_name: str = ""
    share_process_namespace: bool = False
    hostname: str = ""
    hostname_override: str = ""
    subdomain: str = ""
    hostname_as_fqdn: bool = False
    dns_policy: str = "ClusterFirst"
    dns_config: Raw = field(default_factory=dict)
    host_aliases: tuple[Raw, ...] = ()
    active_deadline_seconds: int | None = None
    termination_grace_period_seconds: int = 30
    readiness_gates: tuple[str, ...] = ()
    priority: int = 0
    priority_class_name: str = ""
    requests: Raw = field(default_factory=dict)  # of the pod as a whole (spec.resources)
    limits: Raw = field(default_factory=dict)
    overhead: Raw = field(default_factory=dict)  # of its RuntimeClass
    runtime_class_name: str = ""
    service_account_name: str = ""
    enable_service_links: bool = True
    security_context: Raw = field(default_factory=dict)
    status: Raw = field(default_factory=dict)
    raw: Raw = field(default_factory=dict)

    @property
    def is_static(self) -> bool:
        """From a file of the node: its object in the API is only a mirror."""
        return self.annotations.get(static.SOURCE) == "file" and not self.is_mirror

    @property
    def is_mirror(self) -> bool:
        return static.MIRROR in self.annotations

    @property
    def is_critical(self) -> bool:
        """IsCriticalPod: neither evicted nor preempted; admitted when the node is short."""
        return self.is_static or self.is_mirror or self.priority >= CRITICAL

    @property
    def deleting(self) -> bool:
        return self.deletion_timestamp is not None

    @property
    def all_containers(self) -> tuple[Container, ...]:
        """Init, app and ephemeral containers, in this order."""
        return self.init_containers + self.containers + self.ephemeral_containers

    @property
    def sidecars(self) -> tuple[Container, ...]:
        """Init containers that run for the pod's whole life."""
        return tuple(c for c in self.init_containers if c.is_sidecar)

    @property
    def long_running(self) -> tuple[Container, ...]:
        """What has readiness and may be probed: sidecars and app containers."""
        return self.sidecars + self.containers

    @property
    def full_name(self) -> str:
        """`name_namespace(uid)`, as the kubelet prints a pod."""
        return f"{self.name}_{self.namespace}({self.uid})"


def compile_pod(raw: Raw) -> Pod:
    """Compile the raw object."""
    meta, spec = raw.get("metadata", {}), raw.get("spec", {})
    return Pod(
        name=meta.get("name", ""),
        namespace=meta.get("namespace", "default"),
        uid=meta.get("uid", ""),
        generation=meta.get("generation"),
        labels=meta.get("labels") or {},
        annotations=meta.get("annotations") or {},
        deletion_timestamp=parse_time(meta.get("deletionTimestamp")),
        deletion_grace_period_seconds=meta.get("deletionGracePeriodSeconds"),
        node_name=spec.get("nodeName", ""),
        restart_policy=spec.get("restartPolicy", "Always"),
        containers=_containers(spec, Role.APP),
        init_containers=_containers(spec, Role.INIT),
        ephemeral_containers=_containers(spec, Role.EPHEMERAL),
        volumes=tuple(spec.get("volumes") or ()),
        host_network=bool(spec.get("hostNetwork")),
        host_pid=bool(spec.get("hostPID")),
        host_ipc=bool(spec.get("hostIPC")),
        host_users=spec.get("hostUsers") is not False,
        os_name=(spec.get("os") or {}).get("name", ""),
        share_process_namespace=bool(spec.get("shareProcessNamespace")),
        hostname=spec.get("hostname", ""),
        hostname_override=spec.get("hostnameOverride", ""),
        subdomain=spec.get("subdomain", ""),
        hostname_as_fqdn=bool(spec.get("setHostnameAsFQDN")),
        dns_policy=spec.get("dnsPolicy", "ClusterFirst"),
        dns_config=spec.get("dnsConfig") or {},
        host_aliases=tuple(spec.get("hostAliases") or ()),
        active_deadline_seconds=spec.get("activeDeadlineSeconds"),
        termination_grace_period_seconds=_default(spec, "terminationGracePeriodSeconds", 30),
        readiness_gates=tuple(g["conditionType"] for g in spec.get("readinessGates") or ()),
        priority=spec.get("priority") or 0,
        priority_class_name=spec.get("priorityClassName", ""),
        requests={
            **((spec.get("resources") or {}).get("limits") or {}),
            **((spec.get("resources") or {}).get("requests") or {}),
        },
        limits=(spec.get("resources") or {}).get("limits") or {},
        overhead=spec.get("overhead") or {},
        runtime_class_name=spec.get("runtimeClassName") or "",
        service_account_name=spec.get("serviceAccountName", ""),
        enable_service_links=spec.get("enableServiceLinks") is not False,
        security_context=spec.get("securityContext") or {},
        status=raw.get("status") or {},
        raw=raw,
    )


def recompile_pod(before: Pod, raw: Raw) -> Pod:
    """Compile a later version of *before*; both share the spec unless it changed. Most changes are the kubelet's own statuses."""
    spec = before.raw.get("spec")
    if raw.get("spec") != spec:
        return compile_pod(raw)
    meta = raw.get("metadata", {})
    return replace(
        before,
        generation=meta.get("generation"),
        labels=meta.get("labels") or {},
        annotations=meta.get("annotations") or {},
        deletion_timestamp=parse_time(meta.get("deletionTimestamp")),
        deletion_grace_period_seconds=meta.get("deletionGracePeriodSeconds"),
        status=raw.get("status") or {},
        raw={**raw, "spec": spec},
    )


def compile_container(raw: Raw, cause: str, role: Role = Role.APP) -> Container:
    """Compile one container of the raw object."""
    resources, lifecycle = raw.get("resources") or {}, raw.get("lifecycle") or {}
    limits = resources.get("limits") or {}
    return Container(
        name=raw.get("name", ""),
        role=role,
        restart_policy=raw.get("restartPolicy") or "",
        restart_rules=tuple(map(_restart_rule, raw.get("restartPolicyRules") or ())),
        image=raw.get("image", ""),
        command=tuple(raw.get("command") or ()),
        args=tuple(raw.get("args") or ()),
        working_dir=raw.get("workingDir", ""),
        ports=tuple(raw.get("ports") or ()),
        env=tuple(raw.get("env") or ()),
        env_from=tuple(raw.get("envFrom") or ()),
        resize_policy={
            p["resourceName"]: p["restartPolicy"] for p in raw.get("resizePolicy") or ()
        },
        requests={**limits, **(resources.get("requests") or {})},
        limits=limits,
        volume_mounts=tuple(raw.get("volumeMounts") or ()),
        liveness_probe=_probe(raw.get("livenessProbe")),
        readiness_probe=_probe(raw.get("readinessProbe")),
        startup_probe=_probe(raw.get("startupProbe")),
        post_start=lifecycle.get("postStart"),
        pre_stop=lifecycle.get("preStop"),
        stop_signal=lifecycle.get("stopSignal") or "",
        target_container_name=raw.get("targetContainerName") or "",
        termination_message_path=raw.get("terminationMessagePath") or "/dev/termination-log",
        termination_message_policy=raw.get("terminationMessagePolicy") or "File",
        image_pull_policy=raw.get("imagePullPolicy") or default_pull_policy(raw.get("image", "")),
        security_context=raw.get("securityContext") or {},
        stdin=bool(raw.get("stdin")),
        stdin_once=bool(raw.get("stdinOnce")),
        tty=bool(raw.get("tty")),
        cause=cause,
        raw=raw,
    )


def default_pull_policy(image: str) -> str:
    """Always for `:latest` or no tag, else IfNotPresent (a digest is never stale)."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"


def parse_time(text: str | None) -> float | None:
    """RFC 3339 to seconds since the epoch."""
    return None if not text else datetime.fromisoformat(text).timestamp()


def _containers(spec: Raw, role: Role) -> tuple[Container, ...]:
    raws = spec.get(role.value) or ()
    return tuple(
        compile_container(raw, f"spec.{role.value}[{i}]", role) for i, raw in enumerate(raws)
    )


def _restart_rule(raw: Raw) -> RestartRule:
    codes = raw.get("exitCodes") or {}
    return RestartRule(
        action=raw.get("action", ""),
        operator=codes.get("operator", ""),
        codes=frozenset(codes.get("values") or ()),
    )


def _probe(raw: Raw | None) -> Probe | None:
    if not raw:
        return None
    return Probe(
        handler={k: raw[k] for k in ("exec", "httpGet", "tcpSocket", "grpc") if raw.get(k)},
        initial_delay_seconds=_default(raw, "initialDelaySeconds", 0),
        timeout_seconds=_default(raw, "timeoutSeconds", 1),
        period_seconds=_default(raw, "periodSeconds", 10),
        success_threshold=_default(raw, "successThreshold", 1),
        failure_threshold=_default(raw, "failureThreshold", 3),
        termination_grace_period_seconds=raw.get("terminationGracePeriodSeconds"),
    )


def _default(raw: Raw, key: str, default: int) -> int:
    value = raw.get(key)
    return default if value is None else int(value)
