"""What happens to an object between the request and the store: validation, defaults, the node it runs on, its first status."""

from __future__ import annotations

from typing import Any

from minipod.api import defaults, pod_update
from minipod.api.fields import FieldErrors
from minipod.api.messages import forbidden
from minipod.api.validation import SUBDOMAIN, SUBDOMAIN_WORDS, invalid, required, validate_pod
from minipod.apiserver.resources import Resource

Object = dict[str, Any]


def admit(resource: Resource, obj: Object, *, node_name: str, lenient: bool) -> list[str]:
    """Check a new object and complete it; return warnings. Raises FieldErrors."""
    metadata = obj.setdefault("metadata", {})
    obj.setdefault("apiVersion", resource.api_version)
    obj.setdefault("kind", resource.kind)
    if resource.plural != "pods":
        name = metadata.get("name") or metadata.get("generateName")
        if not name:
            raise FieldErrors(f'{resource.kind} ""', [required("metadata.name")])
        if not SUBDOMAIN.fullmatch(name):
            raise FieldErrors(
                f'{resource.kind} "{name}"', [invalid("metadata.name", name, SUBDOMAIN_WORDS)]
            )
        return []
    warnings = validate_pod(obj, lenient=lenient)
    wanted = obj["spec"].get("nodeName")
    if wanted and wanted != node_name:
        words = f"this node is {node_name!r}, and there is no other"
        raise FieldErrors(
            f'Pod "{metadata.get("name")}"', [invalid("spec.nodeName", wanted, words)]
        )
    if obj["spec"].get("ephemeralContainers"):
        words = "cannot be set on create"
        raise FieldErrors(
            f'Pod "{metadata.get("name")}"', [forbidden("spec.ephemeralContainers", words)]
        )
    defaults.apply(obj)
    obj["spec"]["nodeName"] = node_name
    obj["status"] = {"phase": "Pending"}
    return warnings


def admit_update(
    resource: Resource, current: Object, wanted: Object, subresource: str = ""
) -> None:
    """Allow only the mutable fields of a pod to change. Raises FieldErrors."""
    if resource.plural != "pods":
        return
    if subresource == "ephemeralcontainers":
        for container in (wanted.get("spec") or {}).get("ephemeralContainers") or []:
            defaults.apply_to_container(container)
        pod_update.check_ephemeral(current, wanted)
    else:
        pod_update.check_update(current, wanted)
