"""What the API server knows of a kind: one `Resource` each, in `apiserver.kinds`; the machinery is the same for all of them.

A resource names its group, version, plural and schema type, what its objects must fulfil beyond the schema, and how a table of
them looks. `Registry` finds them. Hooks get and change plain objects; they raise nothing and return errors as FieldErrors' parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from minipod.api.fields import FieldError

Object = dict[str, Any]
Errors = Iterable[FieldError]
ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


def _no_errors(*_: Object | str) -> Errors:
    return ()


def _nothing(*_: Object | str) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subresource:
    """One part of an object with a path of its own; `group_version` and `kind` are those of its bodies ("": the parent's)."""

    name: str
    verbs: tuple[str, ...] = ("get", "patch", "update")
    kind: str = ""
    group_version: str = ""


STATUS = Subresource(name="status")
SCALE = Subresource(name="scale", kind="Scale", group_version="autoscaling/v1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Printer:
    """The columns of `kubectl get`: name and priority (above 0 only with -o wide), and the cells of one object."""

    columns: tuple[tuple[str, int], ...]
    row: Callable[[Object], list[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """What is special about a kind."""

    default: Callable[[Object], None] = _nothing  # fill in what was not given
    validate: Callable[[Object], Errors] = _no_errors  # a new or changed object, defaulted
    validate_new: Callable[[Object], Errors] = _no_errors  # more, of a new one
    validate_update: Callable[[Object, Object], Errors] = _no_errors  # more, of (wanted, current)
    prepare: Callable[[Object], None] = _nothing  # a new object: drop what clients don't set
    # A write of a part, of (wanted, current, subresource): keep what is not its own; what it may not change.
    prepare_part: Callable[[Object, Object, str], None] = _nothing
    validate_part: Callable[[Object, Object, str], Errors] = _no_errors
    name: str = "subdomain"  # the rule of metadata.name: subdomain, label or path


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind of object."""

    plural: str
    kind: str
    type: str  # its name in minipod.api.types; "" where it has none: not in OpenAPI
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    # no: only its `handlers` answer (SelfSubjectAccessReview, metrics), or there are none
    stored: bool = True
    storage: str = ""  # the name in the store; kinds that are one under two names share it
    has_generation: bool = False  # metadata.generation counts changes of the spec
    graceful: bool = False  # a deletion waits for somebody (the kubelet)
    returns_deleted: bool = False  # DELETE answers with the object, not with a Status
    keeps_status: bool = False  # a new object may bring its status along (nodes)
    kept: tuple[str, ...] = ()  # what an update of the object leaves as it is, and says nothing
    durable: bool = True  # a write is on disk before it is answered
    fields: tuple[str, ...] = ()  # selectable ones beyond metadata.name and metadata.namespace
    strategy: Strategy = field(default_factory=Strategy)
    printer: Printer | None = None
    to_storage: Callable[[Object], Object] | None = None  # where the stored form is another version
    from_storage: Callable[[Object], Object] | None = None

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """The name in messages: pods, roles.rbac.authorization.k8s.io."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def stored_as(self) -> str:
        return self.storage or self.plural

    @property
    def has_status(self) -> bool:
        return any(s.name == "status" for s in self.subresources)

    def subresource(self, name: str) -> Subresource | None:
        return next((s for s in self.subresources if s.name == name), None)


class Registry:
    """All kinds, by path and by name in the store."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        self._stored: dict[str, Resource] = {}
        for resource in resources:
            self.add(resource)

    def add(self, resource: Resource) -> None:
        """Register one; the first of those that share a place in the store owns it."""
        self._by_path[resource.group, resource.version, resource.plural] = resource
        if resource.stored:
            self._stored.setdefault(resource.stored_as, resource)

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_path.values())

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_path.get((group, version, plural))

    def stored(self, name: str) -> Resource | None:
        """Return the resource whose objects the store keeps under *name*."""
        return self._stored.get(name)

    def groups(self) -> dict[str, dict[str, list[Resource]]]:
        """Return the resources by group and version, in order of registration."""
        found: dict[str, dict[str, list[Resource]]] = {}
        for r in self:
            found.setdefault(r.group, {}).setdefault(r.version, []).append(r)
        return found
