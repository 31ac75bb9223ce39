"""A pod's probe targets: the probes of its spec joined with its containers as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.api.tuning_probes import probe_periods
from minipod.errors import FailedPrecondition
from minipod.kubelet.hooks import resolve_port
from minipod.kubelet.probe.targets import Exec, Grpc, Handler, HttpGet, Target, TcpSocket
from minipod.kubelet.rules import restart
from minipod.kubelet.rules.env import expand
from minipod.kubelet.rules.observed import Instance, Observed, State
from minipod.kubelet.rules.probe import ProbeKind, Thresholds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minipod.kubelet.rules.pods import Container, Pod, Probe


def targets(pod: Pod, observed: Observed, ip: str) -> Iterator[Target]:
    """One target per probe of an app container or sidecar that has an instance."""
    for container in pod.long_running:
        instance = observed.newest(container.name)
        if instance is None:
            continue
        ended = instance.state is State.EXITED
        if ended and not restart.restarts_after(pod, container, instance.exit_code):
            continue
        for kind, probe in _probes(container):
            yield _target(pod, container, instance, kind, probe, ip)


def _target(
    pod: Pod, container: Container, instance: Instance, kind: ProbeKind, probe: Probe, ip: str
) -> Target:
    period, start_period = probe_periods(pod.annotations, container.name, kind.value)
    return Target(
        pod_uid=pod.uid,
        pod=pod.name,
        namespace=pod.namespace,
        container=container.name,
        kind=kind,
        handler=_handler(probe, container, ip),
        container_id=instance.id,
        running=instance.state is State.RUNNING,
        started_at=instance.started_at,
        startup_gate=container.startup_probe is not None,
        stopping=pod.deleting,
        timeout=float(probe.timeout_seconds),
        period=float(probe.period_seconds) if period is None else period,
        start_period=start_period,
        initial_delay=probe.initial_delay_seconds,
        thresholds=Thresholds(success=probe.success_threshold, failure=probe.failure_threshold),
    )


def _probes(container: Container) -> Iterator[tuple[ProbeKind, Probe]]:
    pairs = (
        (ProbeKind.STARTUP, container.startup_probe),
        (ProbeKind.READINESS, container.readiness_probe),
        (ProbeKind.LIVENESS, container.liveness_probe),
    )
    yield from ((kind, probe) for kind, probe in pairs if probe is not None)


def _handler(probe: Probe, container: Container, ip: str) -> Handler:
    raw = probe.handler
    try:
        if get := raw.get("httpGet"):
            headers = tuple((h["name"], h["value"]) for h in get.get("httpHeaders") or ())
            return Handler(
                http_get=HttpGet(
                    host=get.get("host") or ip,
                    port=resolve_port(get["port"], container),
                    path=get.get("path") or "/",
                    scheme=get.get("scheme") or "HTTP",
                    headers=headers,
                )
            )
        if tcp := raw.get("tcpSocket"):
            port = resolve_port(tcp["port"], container)
            return Handler(tcp_socket=TcpSocket(host=tcp.get("host") or ip, port=port))
        if grpc := raw.get("grpc"):
            return Handler(
                grpc=Grpc(host=ip, port=int(grpc["port"]), service=grpc.get("service") or "")
            )
    except FailedPrecondition as error:
        # An unknown port name is an error of each attempt, as in the original.
        return Handler(error=error.message)
    if command := (raw.get("exec") or {}).get("command"):
        # Only static values: an exec probe's $(VAR) sees the env as the manifest has it.
        static = {e["name"]: e.get("value", "") for e in container.env if "valueFrom" not in e}
        return Handler(exec=Exec(command=tuple(expand(word, static) for word in command)))
    return Handler()
