"""metadata.managedFields, and server-side apply over it (apimachinery/pkg/util/managedfields, structured-merge-diff/merge/update.go).

Every write records which fields its manager set; an update takes them from whoever had them. An apply merges its configuration, removes
what this manager applied before and applies no longer (unless others have it, too), and is a conflict where it changes what others
have, unless forced. Owns no object: changes the wanted one in place or returns a new one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from minipod.api.meta import now
from minipod.apiserver import fieldset
from minipod.apiserver.fieldset import Fields, Path
from minipod.apiserver.resources import Resource
from minipod.apiserver.status import ApiError, bad_request

Object = dict[str, Any]

APPLY, UPDATE = "Apply", "Update"
UPDATERS_MAX = 10  # entries of updates; the oldest beyond it become one
ANCIENT = "ancient-changes"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
ANNOTATION: Path = ("f:metadata", "f:annotations", f"f:{LAST_APPLIED}")


@dataclass(frozen=True, slots=True)
class Manager:
    """Who: an applier is the same under every version."""

    name: str
    operation: str
    version: str = ""
    part: str = ""  # the subresource


@dataclass(slots=True)
class Entry:
    """What one manager has."""

    manager: Manager
    paths: set[Path] = field(default_factory=set)
    time: str = ""
    version: str = ""


class Entries:
    """The managers of one object."""

    def __init__(self, given: Any) -> None:
        self._entries: dict[Manager, Entry] = {}
        for item in given if isinstance(given, list) else []:
            self._read(item)

    def _read(self, item: Object) -> None:
        operation, version = item.get("operation", ""), item.get("apiVersion", "")
        if operation not in (APPLY, UPDATE):
            return
        manager = Manager(
            item.get("manager", ""), operation, version if operation == UPDATE else "", item.get("subresource", ""),
        )  # fmt: skip
        paths = fieldset.flatten(item.get("fieldsV1"))
        if paths:
            self._entries[manager] = Entry(manager, paths, item.get("time", ""), version)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def get(self, manager: Manager) -> Entry | None:
        return self._entries.get(manager)

    def others(self, manager: Manager) -> list[Entry]:
        return [e for m, e in self._entries.items() if m != manager]

    def assign(self, manager: Manager, paths: set[Path], version: str) -> None:
        """Give a manager its set; its time changes only with it."""
        before = self._entries.get(manager)
        if before is not None and before.paths == paths:
            before.version = version
        elif paths:
            self._entries[manager] = Entry(manager, paths, now(), version)
        else:
            self._entries.pop(manager, None)

    def take(self, manager: Manager, changed: set[Path], removed: set[Path]) -> None:
        """Take what a manager changed, and what is no longer there, from all others."""
        for entry in self.others(manager):
            entry.paths -= changed | removed
            if not entry.paths:
                del self._entries[entry.manager]

    def record(self, obj: Object) -> None:
        """Write them into *obj*; where nobody manages anything there is no such field."""
        if written := self.written():
            obj["metadata"]["managedFields"] = written
        else:
            obj["metadata"].pop("managedFields", None)

    def written(self) -> list[Object]:
        """Return them as managedFields."""
        self._cap()
        listed = sorted(
            self._entries.values(), key=lambda e: (e.manager.operation, e.time, e.manager.name)
        )
        return [_written(e) for e in listed]

    def _cap(self) -> None:
        updates = [e for e in self._entries.values() if e.manager.operation == UPDATE]
        updates.sort(key=lambda e: e.time)
        old = updates[: len(updates) - UPDATERS_MAX] if len(updates) > UPDATERS_MAX else []
        for entry in old:
            del self._entries[entry.manager]
            manager = replace(entry.manager, name=ANCIENT)
            ancient = self._entries.setdefault(manager, Entry(manager, version=entry.version))
            ancient.paths |= entry.paths
            ancient.time = max(ancient.time, entry.time)


def _written(entry: Entry) -> Object:
    made = {
        "manager": entry.manager.name, "operation": entry.manager.operation, "apiVersion": entry.version,
        "time": entry.time, "fieldsType": "FieldsV1", "fieldsV1": fieldset.nest(entry.paths),
    }  # fmt: skip
    return {**made, "subresource": entry.manager.part} if entry.manager.part else made


def _relevant(fields: Fields, resource: Resource, part: str) -> Fields:
    """Only what a path can change: the status belongs to its own."""
    if not resource.has_status:
        return fields
    if part == "status":
        return {p: v for p, v in fields.items() if p[0] == "f:status"}
    return {p: v for p, v in fields.items() if p[0] != "f:status"}


def _fields(obj: Object, resource: Resource, part: str) -> Fields:
    return _relevant(fieldset.collect(obj, resource.type, maps=True), resource, part)


def created(obj: Object, name: str, resource: Resource) -> None:
    """Record a create: everything is its manager's."""
    entries = Entries(None)
    manager = Manager(name, UPDATE, resource.api_version)
    entries.assign(manager, set(_fields(obj, resource, "")), resource.api_version)
    entries.record(obj)


def updated(current: Object, wanted: Object, name: str, resource: Resource, part: str) -> None:
    """Record an update: what differs is its manager's. Entries that the client itself changed are kept as it wants them."""
    given = wanted["metadata"].get("managedFields")
    entries = Entries(current["metadata"].get("managedFields") if given is None else given)
    before, after = _fields(current, resource, part), _fields(wanted, resource, part)
    changed, removed = _compare(before, after)
    if changed or removed:
        manager = Manager(name, UPDATE, resource.api_version, part)
        had = entries.get(manager)
        paths = ((had.paths if had else set()) | changed) - removed
        entries.take(manager, changed, removed)
        entries.assign(manager, paths, resource.api_version)
    if entries or given is not None or "managedFields" in current["metadata"]:
        entries.record(wanted)


def _compare(before: Fields, after: Fields) -> tuple[set[Path], set[Path]]:
    changed = {p for p, v in after.items() if p not in before or before[p] != v}
    return changed, before.keys() - after.keys()


# -- apply


def applied_new(obj: Object, name: str, resource: Resource) -> None:
    """Record an apply that creates."""
    _check(obj)
    entries = Entries(None)
    fields = _relevant(fieldset.collect(obj, resource.type), resource, "")
    entries.assign(Manager(name, APPLY), set(fields), resource.api_version)
    entries.record(obj)


def applied(
    current: Object, config: Object, name: str, resource: Resource, part: str, *, force: bool
) -> Object:
    """Return *current* with the configuration applied. Raises ApiError 409 with all conflicts."""
    _check(config)
    version = resource.api_version
    manager = Manager(name, APPLY, part=part)
    entries = _entries_before_apply(current, resource)
    last = entries.get(manager)
    live = {**current, "metadata": {**current["metadata"]}}
    live["metadata"].pop("managedFields", None)
    fields = _relevant(fieldset.collect(config, resource.type), resource, part)
    if resource.has_status:
        config = {
            k: v
            for k, v in config.items()
            if (k == "status") == (part == "status") or k in ("metadata", "apiVersion", "kind")
        }
    merged: Object = fieldset.merge(live, config, resource.type)
    kept = {p for e in entries.others(manager) for p in e.paths} | fields.keys()
    if last is not None:
        gone = last.paths - kept
        merged = fieldset.remove(merged, gone, kept, resource.type)
    changed, removed = _compare(_fields(live, resource, part), _fields(merged, resource, part))
    _check_conflicts(entries, manager, changed, current, resource, force=force)
    entries.take(manager, changed, removed)
    entries.assign(manager, set(fields), version)
    if name == "kubectl" and LAST_APPLIED in (merged["metadata"].get("annotations") or {}):
        merged["metadata"]["annotations"] = {
            **merged["metadata"]["annotations"],
            LAST_APPLIED: json.dumps(config, separators=(",", ":")) + "\n",
        }
    entries.record(merged)
    given = config["metadata"].get("resourceVersion")
    if given:
        merged["metadata"]["resourceVersion"] = given
    return merged


def _check(config: Object) -> None:
    if config["metadata"].get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")


def _entries_before_apply(current: Object, resource: Resource) -> Entries:
    """Return the managers; what nobody recorded was there before."""
    entries = Entries(current["metadata"].get("managedFields"))
    if not entries:
        manager = Manager("before-first-apply", UPDATE, resource.api_version)
        entries.assign(manager, set(_fields(current, resource, "")), resource.api_version)
    return entries


def _check_conflicts(
    entries: Entries,
    manager: Manager,
    changed: set[Path],
    current: Object,
    resource: Resource,
    *,
    force: bool,
) -> None:
    found = [
        (entry, path)
        for entry in entries.others(manager)
        for path in sorted(entry.paths & changed)
        if path != ANNOTATION
    ]
    if manager.name == "kubectl" and found:
        allowed = _last_applied(current, resource)
        found = [f for f in found if f[1] not in allowed]
    if found and not force:
        raise _conflict(found)


def _last_applied(current: Object, resource: Resource) -> set[Path]:
    """Return the fields that kubectl applied client side and that are as it left them: it may take them over."""
    text = (current["metadata"].get("annotations") or {}).get(LAST_APPLIED)
    try:
        config = json.loads(text) if text else {}
        before = fieldset.collect(config, resource.type) if isinstance(config, dict) else {}
    except (ValueError, AttributeError, RecursionError):
        return set()
    live = fieldset.collect(current, resource.type)
    return {p for p, v in before.items() if live.get(p) == v}


def _conflict(found: list[tuple[Entry, Path]]) -> ApiError:
    def who(entry: Entry) -> str:
        part = f' with subresource "{entry.manager.part}"' if entry.manager.part else ""
        using = f" using {entry.version}" if entry.manager.operation == UPDATE else ""
        return f'"{entry.manager.name}"{part}{using}'

    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {who(e)}", "field": fieldset.written(p)}
        for e, p in found
    ]  # fmt: skip
    if len(found) == 1:
        words = (
            f"Apply failed with 1 conflict: conflict with {who(found[0][0])}: {causes[0]['field']}"
        )
    else:
        by_manager: dict[str, list[str]] = {}
        for entry, path in found:
            by_manager.setdefault(who(entry), []).append(f"- {fieldset.written(path)}")
        parts = [f"conflicts with {m}:\n" + "\n".join(p) for m, p in sorted(by_manager.items())]
        words = f"Apply failed with {len(found)} conflicts: " + "\n".join(parts)
    return ApiError(409, words, details={"causes": causes})
