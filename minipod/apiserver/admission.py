"""What happens to an object between the request and the store: defaults, rules, the node it runs on, its first status.

Mutating comes first, then validation; both for new objects and for changed ones. Reads the store (namespaces, limit ranges, priority
classes, service accounts), writes nothing.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from minipod import errors
from minipod.api import defaults, metadata, pod_update, schema, static
from minipod.api.fields import FieldError, FieldErrors
from minipod.api.messages import forbidden, invalid
from minipod.api.validation import check_pod
from minipod.apiserver import first_objects
from minipod.apiserver.admission_pods import PodPlugins
from minipod.apiserver.resources import Resource
from minipod.apiserver.status import ApiError
from minipod.apiserver.store_sqlite import SqliteStore

Object = dict[str, Any]


class Admission:
    """Admits objects. Raises FieldErrors (422), ApiError 403, 404."""

    def __init__(self, store: SqliteStore, node_name: str) -> None:
        self._store = store
        self._node_name = node_name
        self._plugins = PodPlugins(store)

    def create(
        self, resource: Resource, obj: Object, *, lenient: bool, record: Callable[[], None]
    ) -> list[str]:
        """Complete a new object and check it; return warnings.

        *record* is called when it is as its writer meant it: with defaults, before the system adds to it.
        """
        if resource.namespaced:
            self._check_namespace(obj["metadata"].get("namespace", ""), resource, obj)
        if resource.has_status and not resource.keeps_status:
            obj.pop("status", None)
        found, warnings = self.faults(resource, obj, lenient=lenient)
        _raise(resource, obj, found)
        if resource.kind == "Pod":
            defaults.apply(obj)
        record()
        resource.strategy.prepare(obj)
        if resource.kind == "Pod":
            if self._plugins.admit(obj):
                _raise(resource, obj, check_pod(obj, lenient=lenient).errors)
            obj["spec"]["nodeName"] = self._node_name
            obj["status"] = {"phase": "Pending"}
        elif resource.kind == "PersistentVolumeClaim":
            self._plugins.check_claim(obj)
        elif resource.kind == "PriorityClass":
            self._plugins.check_default(obj)
        return warnings

    def faults(
        self, resource: Resource, obj: Object, *, lenient: bool
    ) -> tuple[list[FieldError], list[str]]:
        """Return everything that is wrong with a new object, which gets its kind's defaults, and warnings."""
        strategy = resource.strategy
        strategy.default(obj)
        found: list[FieldError] = []
        warnings: list[str] = []
        if resource.kind == "Pod":
            findings = check_pod(obj, lenient=lenient)
            found, warnings = [*findings.errors, *self._placement(findings.rest)], findings.warnings
        found += metadata.validate(obj, namespaced=resource.namespaced, rule=strategy.name)
        found += [*strategy.validate(obj), *strategy.validate_new(obj)]
        return list(dict.fromkeys(found)), warnings  # a pod's name is looked at twice

    def update(
        self, resource: Resource, current: Object, wanted: Object, part: str, *, lenient: bool
    ) -> list[str]:
        """Complete a changed object and check what may not change; *part* is the subresource."""
        strategy = resource.strategy
        if part not in ("", "ephemeralcontainers", "resize"):
            strategy.prepare_part(wanted, current, part)
            _raise(resource, current, dict.fromkeys(strategy.validate_part(wanted, current, part)))
            return []
        strategy.default(wanted)
        if resource.kind == "Pod":
            self._pod_update(current, wanted, part)
        found = [
            *metadata.validate_update(wanted, current),
            *strategy.validate_update(wanted, current),
            *strategy.validate(wanted),
        ]
        _raise(resource, current, dict.fromkeys(found))
        if resource.kind == "PriorityClass":
            self._plugins.check_default(wanted)
        return []

    def delete(self, resource: Resource, name: str) -> None:
        """Refuse to delete what must not go (plugin/pkg/admission/namespace/lifecycle, registry/scheduling/priorityclass)."""
        if resource.kind == "Namespace" and name in first_objects.IMMORTAL_NAMESPACES:
            words = f'namespaces "{name}" is forbidden: this namespace may not be deleted'
            raise ApiError(403, words)
        if resource.kind == "PriorityClass" and name in first_objects.PRIORITIES:
            words = "this is a system priority class and cannot be deleted"
            raise ApiError(403, f'{resource.qualified} "{name}" is forbidden: {words}')

    def _check_namespace(self, name: str, resource: Resource, obj: Object) -> None:
        try:
            namespace = self._store.raw(("namespaces", "", name))
        except errors.NotFound:
            raise ApiError(
                404, f'namespaces "{name}" not found', details={"name": name, "kind": "namespaces"}
            ) from None
        # Only one that may be ending is decoded: every create asks.
        ending = (b'"Terminating"' in namespace and json.loads(namespace).get("status")) or {}
        if ending.get("phase") == "Terminating":
            words = (
                f"unable to create new content in namespace {name} because it is being terminated"
            )
            about = obj["metadata"].get("name", "")
            raise ApiError(
                403,
                f'{resource.qualified} "{about}" is forbidden: {words}',
                details={
                    "causes": [
                        {"reason": "NamespaceTerminating", "field": "metadata.namespace",
                         "message": f"namespace {name} is being terminated"}
                    ]
                },
            )  # fmt: skip

    # -- pods

    def _placement(self, pod: Object) -> Iterator[FieldError]:
        yield from static.claimed(pod)
        spec = pod.get("spec") or {}
        wanted = spec.get("nodeName")
        if wanted and wanted != self._node_name:
            words = f"this node is {self._node_name!r}, and there is no other"
            yield invalid("spec.nodeName", wanted, words)
        if spec.get("ephemeralContainers"):
            yield forbidden("spec.ephemeralContainers", "cannot be set on create")

    def _pod_update(self, current: Object, wanted: Object, part: str) -> None:
        """Allow only the mutable fields of a pod to change."""
        if part == "ephemeralcontainers":
            for container in (wanted.get("spec") or {}).get("ephemeralContainers") or []:
                defaults.apply_to_container(container)
            pod_update.check_ephemeral(current, wanted)
            return
        if part == "resize":
            pod_update.check_resize(current, wanted)
            return
        if wanted.get("spec") and not list(schema.check(wanted, lenient=True).errors):
            defaults.apply(wanted)
        before = copy.deepcopy(current)  # it may be from a time that had fewer defaults
        defaults.apply(before)
        pod_update.check_update(before, wanted)


def _raise(resource: Resource, obj: Object, found: Iterable[FieldError]) -> None:
    listed = list(found)
    if listed:
        name = obj["metadata"].get("name") or obj["metadata"].get("generateName") or ""
        kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
        raise FieldErrors(f'{kind} "{name}"', listed)
