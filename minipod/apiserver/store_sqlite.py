"""The store of Kubernetes objects (`minipod.api.store.Store`): `lifecycle`'s rules over `storage`'s bytes.

Owns no state of its own. Every reader gets decoded copies; the API server takes the bytes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

from minipod.api.store import Event, Object
from minipod.apiserver import kinds, lifecycle
from minipod.apiserver.disk import Key
from minipod.apiserver.lifecycle import DeleteOptions, Ending
from minipod.apiserver.resources import Registry, Resource
from minipod.apiserver.storage import Storage
from minipod.errors import AlreadyExists, Conflict, NotFound

GENERATE_TRIES = 8
UNVERSIONED = (None, "", "0")  # a resourceVersion that says nothing
Encoded = list[bytes]
Objects = list[Object]  # inside the class, `list` is the verb


_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def encode(obj: Object) -> bytes:
    """Return compact JSON."""
    return _encoder.encode(obj).encode()


def _decode(data: bytes) -> Object:
    decoded: Object = json.loads(data)
    return decoded


class SqliteStore:
    """See `minipod.api.store.Store`. `open` before use, `close` after."""

    def __init__(self, path: str, registry: Registry | None = None) -> None:
        self.registry = registry or kinds.registry()
        self.storage = Storage(path)
        self.open = self.storage.open
        self.close = self.storage.close
        self.flush = self.storage.flush

    @property
    def version(self) -> int:
        return self.storage.version

    def resource(self, name: str) -> Resource:
        """Return the kind that is stored under *name*. Raises NotFound."""
        found = self.registry.stored(name)
        if found is None:
            raise NotFound(f'the server doesn\'t have a resource type "{name}"')
        return found

    # -- reads

    async def get(self, resource: str, namespace: str, name: str) -> Object:
        return self.load((resource, namespace, name))

    async def list(self, resource: str, namespace: str | None) -> tuple[Objects, int]:
        return self.every(resource, namespace), self.version

    async def encoded(self, resource: str, namespace: str | None) -> tuple[Encoded, int]:
        shelf = self.storage.shelf(resource)
        return [shelf.data[place] for place in shelf.select(namespace)], self.version

    def every(self, resource: str, namespace: str | None) -> Objects:
        """Return the objects, decoded: `list` without a version."""
        shelf = self.storage.shelf(resource)
        return [json.loads(shelf.data[place]) for place in shelf.select(namespace)]

    def raw(self, key: Key) -> bytes:
        """Return an object as it is stored. Raises NotFound."""
        data = self.storage.get(key)
        if data is None:
            raise NotFound(f'{self.resource(key[0]).qualified} "{key[2]}" not found')
        return data

    def load(self, key: Key) -> Object:
        """Return an object, decoded. Raises NotFound."""
        loaded: Object = json.loads(self.raw(key))
        return loaded

    # -- writes

    async def create(self, resource: str, namespace: str, obj: Object) -> Object:
        return _decode(self.create_encoded(resource, namespace, obj))

    def create_encoded(self, resource: str, namespace: str, obj: Object) -> bytes:
        """`create`, for who passes the bytes on. *obj* becomes what is stored."""
        kind = self.resource(resource)
        self.name(resource, namespace, obj)
        key = (resource, namespace, obj["metadata"]["name"])
        if self.storage.get(key) is not None:
            raise AlreadyExists(f'{kind.qualified} "{key[2]}" already exists')
        lifecycle.born(kind, namespace, obj)
        return self._put(key, obj, durable=kind.durable)

    def name(self, resource: str, namespace: str, obj: Object) -> None:
        """Give a new object that has only a generateName a name that is free."""
        metadata = obj.setdefault("metadata", {})
        prefix = metadata.get("generateName")
        if metadata.get("name") or not prefix:
            return
        for _ in range(GENERATE_TRIES):
            metadata["name"] = lifecycle.generated_name(prefix)
            if self.storage.get((resource, namespace, metadata["name"])) is None:
                break

    async def update(
        self, resource: str, namespace: str, name: str, obj: Object, subresource: str = ""
    ) -> Object:
        key = (resource, namespace, name)
        current = self.load(key)
        self.check_version(key, current, obj)
        return _decode(self._replace(key, current, obj, subresource))

    def check_version(self, key: Key, current: Object, obj: Object) -> None:
        """Raise Conflict unless *obj* was made from *current* (or does not say from what)."""
        given = obj.get("metadata", {}).get("resourceVersion")
        if given not in UNVERSIONED and given != current["metadata"]["resourceVersion"]:
            raise Conflict(
                f'Operation cannot be fulfilled on {self.resource(key[0]).qualified} "{key[2]}": the object has been modified;'
                " please apply your changes to the latest version and try again"
            )

    async def mutate(
        self,
        resource: str,
        namespace: str,
        name: str,
        fn: Callable[[Object], Object | None],
        subresource: str = "",
    ) -> Object:
        return _decode(self.mutate_encoded((resource, namespace, name), fn, subresource))

    def mutate_encoded(
        self, key: Key, fn: Callable[[Object], Object | None], subresource: str
    ) -> bytes:
        """`mutate`, for who passes the bytes on."""
        changed = fn(self.load(key))
        if changed is None:
            return self.raw(key)
        current = self.load(key)
        self.check_version(key, current, changed)
        return self._replace(key, current, changed, subresource)

    async def preview(
        self,
        resource: str,
        namespace: str,
        name: str,
        fn: Callable[[Object], Object],
        subresource: str = "",
    ) -> Object:
        """Return what `mutate` would store (a dry run)."""
        key = (resource, namespace, name)
        current = self.load(key)
        return lifecycle.updated(self.resource(resource), current, fn(self.load(key)), subresource)

    def _replace(self, key: Key, current: Object, wanted: Object, subresource: str) -> bytes:
        kind = self.resource(key[0])
        merged = lifecycle.updated(kind, current, wanted, subresource)
        if lifecycle.same(current, merged):
            return self.raw(key)
        if lifecycle.finished(kind, merged):
            return self._remove(key, merged, durable=kind.durable)
        done = (merged.get("status") or {}).get("phase") in lifecycle.TERMINAL
        return self._put(key, merged, durable=kind.durable and (subresource != "status" or done))

    async def delete(  # noqa: PLR0913 metav1.DeleteOptions
        self,
        resource: str,
        namespace: str,
        name: str,
        *,
        grace_period: int | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
    ) -> Object:
        key = (resource, namespace, name)
        kind, obj = self.resource(resource), self.load(key)
        options = DeleteOptions(
            grace_period=grace_period,
            uid=uid,
            resource_version=resource_version,
            propagation=propagation,
        )
        lifecycle.check_preconditions(kind, obj, options)
        match lifecycle.deletion(kind, obj, options):
            case Ending.REMOVE:
                self._remove(key, obj, durable=kind.durable)
            case Ending.MARK:
                self._put(key, obj, durable=True)
        return obj

    def _put(self, key: Key, obj: Object, *, durable: bool) -> bytes:
        obj["metadata"]["resourceVersion"] = str(self.storage.next_version())
        data = encode(obj)
        self.storage.put(key, data, durable=durable)
        return data

    def _remove(self, key: Key, obj: Object, *, durable: bool) -> bytes:
        obj["metadata"]["resourceVersion"] = str(self.storage.next_version())
        data = encode(obj)
        self.storage.remove(key, data, durable=durable)
        return data

    # -- watch

    def watch(
        self, resource: str, namespace: str | None, since_rv: int, *, patience: float = 0.0
    ) -> AsyncIterator[Event]:
        return self.storage.watch(resource, namespace, since_rv, patience=patience)
