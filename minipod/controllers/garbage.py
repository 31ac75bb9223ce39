"""Garbage collection by ownerReferences (pkg/controller/garbagecollector; kubernetes.io/docs/concepts/architecture/garbage-collection).

An object whose owners are all gone is deleted. An owner that is being deleted with the finalizer `foregroundDeletion` waits until the
dependents that block it are gone; with `orphan` its dependents lose their reference first. An owner is gone when nothing of its
kind has its name, or what has it is another one (uid).

Follows every kind, but remembers only objects that have owners: 10,000 others cost nothing. A kind that is not known is never
taken for gone. A reference from one namespace into another, or from outside into one, means nothing, and keeps its object.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from typing import Any

from minipod.api.store import Event, Object, Store
from minipod.controllers.controller import PATIENCE, Controller
from minipod.controllers.kinds import Kind, Kinds
from minipod.errors import Gone, NotFound

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
MARKS = (b'"ownerReferences"', b'"deletionTimestamp"')  # what an object must contain to matter


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object is in the store."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Reference:
    """An ownerReference, with the place it leads to (None: a kind that is not known, or a place that can't be meant)."""

    uid: str
    owner: Place | None
    blocks: bool

    @classmethod
    def parse(cls, reference: dict[str, Any], namespace: str, kinds: Kinds) -> Reference:
        kind = kinds.of_reference(reference.get("apiVersion", ""), reference.get("kind", ""))
        place = None
        if kind is not None and (namespace or not kind.namespaced):
            place = Place(kind.resource, namespace if kind.namespaced else "", reference["name"])
        return cls(reference["uid"], place, reference.get("blockOwnerDeletion") is True)


class State(enum.Enum):
    """What an owner is to its dependent."""

    SOLID = enum.auto()
    WAITING = enum.auto()  # for the dependent's end: foreground deletion
    GONE = enum.auto()


class GarbageCollector(Controller[Place]):
    """Keys are places of objects: dependents to look after, or owners that wait."""

    name = "garbage collector"
    workers = 2

    def __init__(self, store: Store, kinds: Kinds) -> None:
        super().__init__()
        self._store = store
        self._kinds = kinds
        self._owners: dict[Place, tuple[Reference, ...]] = {}
        self._dependents: dict[str, set[Place]] = {}  # by the owner's uid

    async def run(self) -> None:
        listed = [(kind, await self._list(kind)) for kind in self._kinds]
        # Only now: an owner whose dependents are not known yet would not wait for them.
        for kind, version in listed:
            self.background.spawn(self._follow(kind, version), name=f"garbage {kind.resource}")
        await super().run()

    # -- what there is

    async def _list(self, kind: Kind) -> int:
        objects, version = await self._store.encoded(kind.resource, None)
        for data in objects:
            if not any(mark in data for mark in MARKS):
                continue
            metadata = json.loads(data)["metadata"]
            place = Place(kind.resource, metadata.get("namespace", ""), metadata["name"])
            self._seen(place, metadata)
        return version

    async def _follow(self, kind: Kind, version: int) -> None:
        while True:
            try:
                async for event in self._store.watch(
                    kind.resource, None, version, patience=PATIENCE
                ):
                    self._event(event)
            except Gone:
                version = await self._list(kind)

    def _event(self, event: Event) -> None:
        place = Place(event.resource, event.namespace, event.name)
        if event.type == "DELETED":
            self._gone(place, event)
        elif place in self._owners or any(mark in event.data for mark in MARKS):
            self._seen(place, event.object["metadata"])

    def _seen(self, place: Place, metadata: Object) -> None:
        references = tuple(
            Reference.parse(r, place.namespace, self._kinds)
            for r in metadata.get("ownerReferences") or ()
        )
        if references != self._owners.get(place, ()):
            self._forget(place)
            if references:
                self._owners[place] = references
                self.enqueue(place)
            for reference in references:
                self._dependents.setdefault(reference.uid, set()).add(place)
        if metadata.get("deletionTimestamp") and _waits(metadata):
            self.enqueue(place)

    def _gone(self, place: Place, event: Event) -> None:
        """Look after the dependents of what is gone, and after owners that waited for it."""
        for reference in self._forget(place):
            if reference.owner is not None:
                self.enqueue(reference.owner)
        if self._dependents:
            for dependent in self._dependents.get(event.object["metadata"]["uid"], ()):
                self.enqueue(dependent)

    def _forget(self, place: Place) -> tuple[Reference, ...]:
        references = self._owners.pop(place, ())
        for reference in references:
            known = self._dependents.get(reference.uid, set())
            known.discard(place)
            if not known:
                self._dependents.pop(reference.uid, None)
        return references

    # -- what there should be

    async def reconcile(self, key: Place) -> None:
        try:
            obj = await self._get(key)
        except NotFound:
            return
        metadata = obj["metadata"]
        if metadata.get("deletionTimestamp"):
            if ORPHAN in (metadata.get("finalizers") or ()):
                await self._orphan(key, metadata["uid"])
            elif FOREGROUND in (metadata.get("finalizers") or ()):
                await self._foreground(key, metadata["uid"])
            return
        if metadata.get("ownerReferences"):
            await self._dependent(key, metadata)

    async def _get(self, place: Place) -> Object:
        return await self._store.get(place.resource, place.namespace, place.name)

    async def _dependent(self, place: Place, metadata: Object) -> None:
        """Delete it when no owner keeps it; else take away the references to owners that are gone."""
        states: dict[State, list[str]] = {state: [] for state in State}
        for one in metadata["ownerReferences"]:
            reference = Reference.parse(one, place.namespace, self._kinds)
            states[await self._state(reference)].append(reference.uid)
        if states[State.SOLID]:
            if void := states[State.GONE] + states[State.WAITING]:
                await self._unlink(place, set(void))
            return
        policy = "Background"
        if states[State.WAITING] and metadata["uid"] in self._dependents:
            policy = "Foreground"  # its own dependents are part of what the owner waits for
        await self._store.delete(
            place.resource, place.namespace, place.name, grace_period=None, uid=metadata["uid"],
            propagation=_own_policy(metadata) or policy,
        )  # fmt: skip

    async def _state(self, reference: Reference) -> State:
        if reference.owner is None:
            return State.SOLID
        try:
            owner = await self._get(reference.owner)
        except NotFound:
            return State.GONE
        metadata = owner["metadata"]
        if metadata["uid"] != reference.uid:
            return State.GONE
        waits = metadata.get("deletionTimestamp") and FOREGROUND in (
            metadata.get("finalizers") or ()
        )
        return State.WAITING if waits else State.SOLID

    async def _unlink(self, place: Place, uids: set[str]) -> None:
        """Take the references to *uids* away."""

        def change(obj: Object) -> Object | None:
            references = obj["metadata"].get("ownerReferences") or []
            kept = [r for r in references if r["uid"] not in uids]
            if len(kept) == len(references):
                return None
            metadata = {k: v for k, v in obj["metadata"].items() if k != "ownerReferences"}
            return {**obj, "metadata": {**metadata, **({"ownerReferences": kept} if kept else {})}}

        await self._store.mutate(place.resource, place.namespace, place.name, change)

    async def _orphan(self, place: Place, uid: str) -> None:
        for dependent in tuple(self._dependents.get(uid, ())):
            try:
                await self._unlink(dependent, {uid})
            except NotFound:
                continue
        await self._remove_finalizer(place, ORPHAN)

    async def _foreground(self, place: Place, uid: str) -> None:
        blocked = False
        for dependent in tuple(self._dependents.get(uid, ())):
            blocked |= any(r.uid == uid and r.blocks for r in self._owners[dependent])
            self.enqueue(dependent)
        if not blocked:
            await self._remove_finalizer(place, FOREGROUND)

    async def _remove_finalizer(self, place: Place, finalizer: str) -> None:
        def change(obj: Object) -> Object | None:
            finalizers = obj["metadata"].get("finalizers") or []
            kept = [f for f in finalizers if f != finalizer]
            return {**obj, "metadata": {**obj["metadata"], "finalizers": kept}}

        await self._store.mutate(place.resource, place.namespace, place.name, change)


def _waits(metadata: Object) -> bool:
    finalizers = metadata.get("finalizers") or ()
    return FOREGROUND in finalizers or ORPHAN in finalizers


def _own_policy(metadata: Object) -> str:
    """A finalizer that was set by hand says how an object wants to be deleted."""
    finalizers = metadata.get("finalizers") or ()
    return "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else ""
