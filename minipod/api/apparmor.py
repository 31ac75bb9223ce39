"""The annotations that named AppArmor profiles before there was a field (Kubernetes 1.30): read into the field, or refused.

container.apparmor.security.beta.kubernetes.io/<container>: runtime/default | unconfined | localhost/<profile>

pkg/apis/core/validation: ValidateAppArmorPodAnnotations; pkg/registry/core/pod: applyAppArmorVersionSkew.
"""

from __future__ import annotations

from minipod.api.messages import Errors, Object, invalid

PREFIX = "container.apparmor.security.beta.kubernetes.io/"
_TYPES = {"runtime/default": "RuntimeDefault", "unconfined": "Unconfined"}
_LOCALHOST = "localhost/"


def check(annotations: Object, containers: set[str]) -> Errors:
    """What is wrong with the annotations of a pod of these containers."""
    for key, value in annotations.items():
        if not key.startswith(PREFIX):
            continue
        path = f"metadata.annotations[{key}]"
        if key.removeprefix(PREFIX) not in containers:
            yield invalid(path, key.removeprefix(PREFIX), "container not found")
        if value not in _TYPES and not value.startswith(_LOCALHOST):
            yield invalid(path, value, f'invalid AppArmor profile name: "{value}"')


def apply(pod: Object) -> None:
    """Write them into the fields that are not set."""
    annotations = pod["metadata"].get("annotations") or {}
    if not any(key.startswith(PREFIX) for key in annotations):
        return
    spec = pod["spec"]
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        value = annotations.get(PREFIX + container["name"])
        context = container.get("securityContext") or {}
        if value is None or context.get("appArmorProfile") is not None:
            continue
        if value.startswith(_LOCALHOST):
            profile = {
                "type": "Localhost",
                "localhostProfile": value.removeprefix(_LOCALHOST),
            }
        else:
            profile = {"type": _TYPES[value]}
        container["securityContext"] = {**context, "appArmorProfile": profile}
