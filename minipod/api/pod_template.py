"""Pod templates: held against the rules of pods and completed with their defaults, wherever a kind has one (core.v1.PodTemplateSpec).

`check` yields errors with the template's own path; `complete` writes the defaults into a template that is right and leaves another one
as it is. A template may not have what only one pod can: a name is its maker's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from minipod.api import defaults
from minipod.api.messages import Errors, Object
from minipod.api.validation import check_pod


def check(template: Any, path: str) -> Errors:
    """Yield what is wrong with the template at *path* ("spec.template")."""
    pod = _pod(template)
    for error in check_pod(pod).errors:
        yield replace(error, path=f"{path}.{error.path}")


def complete(template: Any) -> None:
    """Write a pod's defaults into the template, if it is right."""
    pod = _pod(template)
    if not check_pod(pod).errors:
        defaults.apply(pod)


def _pod(template: Any) -> Object:
    """Return the pod that would be made of it: its spec is the template's own."""
    given = template or {}
    metadata = {**(given.get("metadata") or {}), "name": "template"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": given.get("spec")}
