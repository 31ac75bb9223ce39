"""The defaults that an API server writes into a pod (pkg/apis/core/v1/defaults.go)."""

from __future__ import annotations

from typing import Any

from minipod.api import apparmor

Object = dict[str, Any]

FILE_MODE = 0o644
TOKEN_LIFETIME = 3600  # seconds
PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


def apply(pod: Object) -> None:
    """Write them into *pod*, a validated one."""
    spec = pod["spec"]
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    if spec.get("hostNetwork"):
        _host_ports(spec["containers"])
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        apply_to_container(container)
    apparmor.apply(pod)
    for volume in spec.get("volumes") or []:
        _volume(volume)


def _volume(volume: Object) -> None:
    """A volume that names no source is an emptyDir (SetDefaults_Volume): so is `emptyDir:` with nothing behind it."""
    sources = {name: source for name, source in volume.items() if source is not None}
    if len(sources) == 1:
        volume["emptyDir"] = {}
    if "hostPath" in sources:
        volume["hostPath"].setdefault("type", "")
    if "image" in sources and volume["image"].get("reference"):
        volume["image"].setdefault("pullPolicy", pull_policy(volume["image"]["reference"]))
    if "ephemeral" in sources:
        claim = volume["ephemeral"].get("volumeClaimTemplate") or {}
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    for name in ("secret", "configMap", "downwardAPI", "projected"):
        if name in sources:
            volume[name].setdefault("defaultMode", FILE_MODE)
            for source in (volume[name], *(volume[name].get("sources") or [])):
                _projection(source)


def _projection(source: Object) -> None:
    if source.get("serviceAccountToken") is not None:
        source["serviceAccountToken"].setdefault("expirationSeconds", TOKEN_LIFETIME)
    for item in (source.get("downwardAPI") or source).get("items") or []:
        _field_reference(item)


def _field_reference(source: Object) -> None:
    if source.get("fieldRef") is not None:
        source["fieldRef"].setdefault("apiVersion", "v1")


def apply_to_container(container: Object) -> None:
    """Write the defaults of one container."""
    container.setdefault("resources", {})
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", pull_policy(container["image"]))
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
    for variable in container.get("env") or []:
        _field_reference(variable.get("valueFrom") or {})
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(kind)
        if probe is not None:
            for field, value in PROBE.items():
                if not probe.get(field):
                    probe[field] = value
            if probe.get("grpc") is not None:
                probe["grpc"].setdefault("service", "")
            _http(probe)
    lifecycle = container.get("lifecycle") or {}
    for hook in ("postStart", "preStop"):
        _http(lifecycle.get(hook) or {})
    resources = container["resources"]
    for name, limit in (resources.get("limits") or {}).items():
        resources.setdefault("requests", {}).setdefault(name, limit)


def _host_ports(containers: list[Object]) -> None:
    """In the node's network a port is the node's (defaultHostNetworkPorts)."""
    for container in containers:
        for port in container.get("ports") or []:
            if not port.get("hostPort"):
                port["hostPort"] = port["containerPort"]


def _http(handler: Object) -> None:
    if handler.get("httpGet") is not None:
        handler["httpGet"].setdefault("path", "/")
        handler["httpGet"].setdefault("scheme", "HTTP")


def pull_policy(image: str) -> str:
    """Always for :latest and no tag, else IfNotPresent (kubelet-rules 1.16)."""
    name, _, digest = image.partition("@")
    if digest:
        return "IfNotPresent"
    tag = name.rpartition("/")[2].partition(":")[2]
    return "Always" if tag in ("", "latest") else "IfNotPresent"
