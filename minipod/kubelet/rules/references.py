"""Which objects a pod refers to: ConfigMaps, Secrets and claims of its volumes and environment. Pure.

What of them changes must reach the pod at once (volumes), or lets a start that failed be tried again.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minipod.kubelet.rules.pods import Container, Pod, Raw

CONFIG_MAPS, SECRETS, CLAIMS = "configmaps", "secrets", "persistentvolumeclaims"
WATCHED = (CONFIG_MAPS, SECRETS, CLAIMS)
Reference = tuple[str, str]  # resource, name; in the pod's namespace
Objects = Mapping[Reference, "Raw | None"]  # None: there is no such object


def of_pod(pod: Pod) -> frozenset[Reference]:
    """Everything that *pod* refers to."""
    found = {r for volume in pod.volumes for r in of_volume(volume)}
    claims = (claim_name(pod.name, volume) for volume in pod.volumes)
    found.update((CLAIMS, name) for name in claims if name is not None)
    for container in pod.all_containers:
        found.update(of_environment(container))
    return frozenset(found)


def of_volume(volume: Raw) -> Iterable[Reference]:
    """What one volume is made of."""
    if source := volume.get("configMap"):
        yield (CONFIG_MAPS, source["name"])
    if source := volume.get("secret"):
        yield (SECRETS, source["secretName"])
    for part in (volume.get("projected") or {}).get("sources") or ():
        if source := part.get("configMap"):
            yield (CONFIG_MAPS, source["name"])
        if source := part.get("secret"):
            yield (SECRETS, source["name"])


def claim_name(pod: str, volume: Raw) -> str | None:
    """The claim behind a volume; an ephemeral one has its pod's and its own name."""
    if source := volume.get("persistentVolumeClaim"):
        return str(source["claimName"])
    return f"{pod}-{volume['name']}" if "ephemeral" in volume else None


def of_environment(container: Container) -> Iterable[Reference]:
    """What the environment of one container is made of."""
    for entry in container.env_from:
        if source := entry.get("configMapRef"):
            yield (CONFIG_MAPS, source["name"])
        if source := entry.get("secretRef"):
            yield (SECRETS, source["name"])
    for entry in container.env:
        source = entry.get("valueFrom") or {}
        if ref := source.get("configMapKeyRef"):
            yield (CONFIG_MAPS, ref["name"])
        if ref := source.get("secretKeyRef"):
            yield (SECRETS, ref["name"])


def content(found: Raw, resource: str) -> dict[str, bytes]:
    """Keys and bytes of a ConfigMap or Secret."""
    if resource == SECRETS:
        return {k: base64.b64decode(v) for k, v in (found.get("data") or {}).items()}
    values = {k: v.encode() for k, v in (found.get("data") or {}).items()}
    binary = {k: base64.b64decode(v) for k, v in (found.get("binaryData") or {}).items()}
    return values | binary
