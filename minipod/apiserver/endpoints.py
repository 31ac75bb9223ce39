"""The verbs on objects, the same for all kinds (apiserver/pkg/registry/generic/registry/store.go).

A write is: read the body, decode it by the kind's type, admit it (defaults, rules), record who manages which field, store it,
wait until it is on disk, answer. There is no await between reading an object and storing what became of it: no write is lost between them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web  # noqa: TC002 handlers are read at run time

from minipod import errors
from minipod.api import decoding
from minipod.api.fields import FieldErrors
from minipod.api.messages import forbidden, invalid
from minipod.apiserver import codec, lifecycle, managed, patch, status
from minipod.apiserver.admission import Admission
from minipod.apiserver.call import Call
from minipod.apiserver.lifecycle import DeleteOptions
from minipod.apiserver.listing import Listing
from minipod.apiserver.query import WriteQuery, list_query, number, write_query
from minipod.apiserver.selecting import select
from minipod.apiserver.status import ApiError, bad_request
from minipod.apiserver.store_sqlite import UNVERSIONED, SqliteStore
from minipod.apiserver.watching import too_large

Object = dict[str, Any]

Examine = Callable[[Call, Object], Awaitable[None]]
PROPAGATION = ("Background", "Foreground", "Orphan")


class Endpoints:
    """The handlers of stored kinds."""

    def __init__(self, store: SqliteStore, admission: Admission) -> None:
        self._store = store
        self._admission = admission
        self._listing = Listing(store.storage)
        self.guard: Callable[[Call, Object], None] = _anything  # may this user write this?
        self.examiners: dict[str, Examine] = {}  # of new objects, by the name of the kind
        self.may_create: Callable[[Call], None] = _anyone  # what a patch that creates must also ask

    # -- reads

    async def get(self, call: Call) -> web.Response:
        """GET of one."""
        if not call.resource.stored:  # a kind of which there are none
            raise errors.NotFound(f'{call.resource.qualified} "{call.info.name}" not found')
        asked = number(call.request.query, "resourceVersion") or 0
        if asked > self._store.version:
            raise too_large(asked, self._store.version)
        return call.answer_encoded(self._store.raw(call.key))

    async def list(self, call: Call) -> web.Response:
        """GET of many."""
        query = list_query(call.request.query)
        return self._listing.answer(call, query, select(call.resource, query))

    # -- writes

    async def create(self, call: Call) -> web.Response:
        """POST."""
        options, obj = await self._body(call)
        namespace = self._namespace(call, obj)
        return await self.create_object(call, namespace, obj, options)

    async def create_object(
        self, call: Call, namespace: str, obj: Object, options: WriteQuery
    ) -> web.Response:
        """Admit and store a decoded object; answer 201."""
        if obj["metadata"].get("resourceVersion") not in UNVERSIONED:
            raise bad_request("resourceVersion should not be set on objects to be created")
        obj = call.stored(obj)
        return await self._store_new(
            call, namespace, obj, options,
            lambda: managed.created(obj, options.manager, call.stored_resource),
        )  # fmt: skip

    async def _store_new(
        self,
        call: Call,
        namespace: str,
        obj: Object,
        options: WriteQuery,
        record: Callable[[], None],
    ) -> web.Response:
        if examine := self.examiners.get(call.resource.qualified):
            await examine(call, obj)
        if call.resource.namespaced:
            obj["metadata"]["namespace"] = namespace
        self._store.name(call.resource.stored_as, namespace, obj)
        call.warnings += self._admission.create(
            call.resource, obj, lenient=options.lenient, record=record
        )
        self.guard(call, obj)
        if options.dry_run:
            return call.answer(self._as_if(call, namespace, obj), 201)
        made = self._store.create_encoded(call.resource.stored_as, namespace, obj)
        await self._settle(call)
        return call.answer_encoded(made, 201)

    def _as_if(self, call: Call, namespace: str, obj: Object) -> Object:
        """Return what a create would make. Raises AlreadyExists."""
        name = obj["metadata"]["name"]
        if self._store.storage.get((call.resource.stored_as, namespace, name)) is not None:
            raise errors.AlreadyExists(f'{call.resource.qualified} "{name}" already exists')
        lifecycle.born(call.resource, namespace, obj)
        return obj

    async def update(self, call: Call) -> web.Response:
        """PUT; creates nothing."""
        options, obj = await self._body(call)
        self._namespace(call, obj)
        name = obj["metadata"].get("name")
        if name != call.info.name:
            if name:
                raise bad_request(
                    f"the name of the object ({name}) does not match the name on the URL ({call.info.name})"
                )
            obj["metadata"]["name"] = call.info.name

        def change(current: Object) -> Object:
            self._check_uid(call, obj, current)
            return obj

        obj = call.stored(obj)
        return await self._write(call, options, change)

    def _check_uid(self, call: Call, obj: Object, current: Object) -> None:
        uid = obj["metadata"].get("uid")
        if uid and uid != current["metadata"]["uid"]:
            raise errors.Conflict(
                f'Operation cannot be fulfilled on {call.resource.qualified} "{call.info.name}": Precondition failed: UID in'
                f" precondition: {uid}, UID in object meta: {current['metadata']['uid']}"
            )

    async def patch(self, call: Call) -> web.Response:
        """PATCH, of all types."""
        content = await call.body()
        options = write_query(call.request.query, call.request.headers.get("User-Agent", ""))
        media = call.request.content_type
        if media == patch.APPLY:
            return await self._apply(call, content, options)
        if options.force:
            raise FieldErrors(
                'PatchOptions.meta.k8s.io ""',
                [forbidden("force", "may not be specified for non-apply patch")],
            )
        wanted = patch.parse(content, media)

        def change(current: Object) -> Object:
            patched = patch.apply(call.served(current), wanted.value, media, call.resource.type)
            parsed = codec.Parsed(patched, wanted.duplicates)
            obj, warnings = codec.decode_object(
                parsed, call.resource, options.validation, defaulted=False
            )
            call.warnings += warnings
            return call.stored(obj)

        return await self._write(call, options, change)

    async def _apply(self, call: Call, content: bytes, options: WriteQuery) -> web.Response:
        """Server-side apply: creates what does not exist."""
        if "fieldManager" not in call.request.query:
            raise FieldErrors(
                'PatchOptions.meta.k8s.io ""',
                [invalid("fieldManager", "", "is required for apply patch")],
            )
        parsed = codec.parse_yaml(content)
        applied, call.warnings = codec.decode_object(
            parsed, call.resource, options.validation, defaulted=False
        )
        metadata = applied["metadata"]
        if metadata.setdefault("name", call.info.name) != call.info.name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({call.info.name})"
            )
        namespace = self._namespace(call, applied)
        applied = call.stored(applied)
        if self._store.storage.get(call.key) is None:
            if call.info.subresource:
                self._store.raw(call.key)
            self.may_create(call)
            if uid := metadata.get("uid"):
                raise errors.Conflict(
                    f'Operation cannot be fulfilled on {call.resource.qualified} "{call.info.name}": uid mismatch: the provided object'
                    f" specified uid {uid}, and no existing object was found"
                )
            managed.applied_new(applied, options.manager, call.stored_resource)
            return await self._store_new(call, namespace, applied, options, lambda: None)

        def change(current: Object) -> Object:
            self._check_uid(call, applied, current)
            return managed.applied(
                current,
                applied,
                options.manager,
                call.stored_resource,
                call.info.subresource,
                force=options.force,
            )

        return await self._write(call, options, change, applied=True)

    async def _write(
        self,
        call: Call,
        options: WriteQuery,
        change: Callable[[Object], Object],
        *,
        applied: bool = False,
    ) -> web.Response:
        """Change an object that exists, admitted as an update."""
        part = call.info.subresource

        def admitted(current: Object) -> Object:
            wanted = change(current)
            self._store.check_version(call.key, current, wanted)
            call.warnings += self._admission.update(
                call.resource, current, wanted, part, lenient=options.lenient
            )
            self.guard(call, wanted)
            if not applied:  # an apply has recorded itself
                managed.updated(current, wanted, options.manager, call.stored_resource, part)
            return wanted

        if options.dry_run:
            return call.answer(await self._store.preview(*call.key, admitted, part))
        made = self._store.mutate_encoded(call.key, admitted, part)
        await self._settle(call)
        return call.answer_encoded(made)

    # -- deletion

    async def delete(self, call: Call) -> web.Response:
        """DELETE of one."""
        options, dry_run = await self._delete_options(call)
        resource, namespace, name = call.key
        before = self._store.raw(call.key)
        self._admission.delete(call.resource, name)
        if dry_run:
            found = codec.parse_json(before).value
            lifecycle.check_preconditions(call.resource, found, options)
            return self._deleted(call, found)
        gone = await self._store.delete(
            resource, namespace, name,
            grace_period=options.grace_period, uid=options.uid,
            resource_version=options.resource_version, propagation=options.propagation,
        )  # fmt: skip
        marked = self._store.storage.get(call.key)
        await self._settle(call)
        if marked is not None:
            return call.answer_encoded(marked)
        return self._deleted(call, gone)

    def _deleted(self, call: Call, obj: Object) -> web.Response:
        if call.resource.returns_deleted:
            return call.answer(obj)
        metadata = obj["metadata"]
        details = {
            "name": metadata["name"], "group": call.resource.group, "kind": call.resource.plural,
            "uid": metadata["uid"],
        }  # fmt: skip
        return call.reply(status.success({k: v for k, v in details.items() if v}))

    async def delete_collection(self, call: Call) -> web.Response:
        """DELETE of all that the selectors choose."""
        options, dry_run = await self._delete_options(call)
        query = list_query(call.request.query)
        selection = select(call.resource, query)
        resource = call.resource.stored_as
        items, version = await self._store.list(resource, call.namespace)
        chosen = [i for i in items if selection.fits is None or selection.fits(i)]
        for item in chosen:
            self._admission.delete(call.resource, item["metadata"]["name"])
        for item in chosen if not dry_run else []:
            metadata = item["metadata"]
            await self._store.delete(
                resource, metadata.get("namespace", ""), metadata["name"],
                grace_period=options.grace_period, propagation=options.propagation,
            )  # fmt: skip
        await self._settle(call)
        return call.reply(
            {
                "kind": f"{call.resource.kind}List", "apiVersion": call.resource.api_version,
                "metadata": {"resourceVersion": str(version)}, "items": [call.served(i) for i in chosen],
            }
        )  # fmt: skip

    async def _delete_options(self, call: Call) -> tuple[DeleteOptions, bool]:
        content = await call.body()
        given: Object = {}
        if content:
            given = codec.parse(content, call.request.content_type).value
        return delete_options(given, call.request.query)

    # -- parts

    async def _body(self, call: Call) -> tuple[WriteQuery, Object]:
        content = await call.body()
        options = write_query(call.request.query, call.request.headers.get("User-Agent", ""))
        if not content:
            raise bad_request("the body of the request is empty")
        media = call.request.headers.get("Content-Type", "").partition(";")[0].strip()
        parsed = codec.parse(content, media)
        try:
            obj, warnings = codec.decode_object(parsed, call.resource, options.validation)
        except codec.Undecodable as e:
            if call.info.verb != "create" or call.info.subresource:
                raise
            faults, _ = self._admission.faults(call.resource, e.rest, lenient=options.lenient)
            raise e.with_faults(faults) from None
        call.warnings += warnings
        return options, obj

    def _namespace(self, call: Call, obj: Object) -> str:
        """Return the namespace of a write. Raises ApiError 400 when body and path do not agree."""
        if not call.resource.namespaced:
            return ""
        given = obj["metadata"].get("namespace")
        if given not in (None, "", call.info.namespace):
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request:"
                f" {given} is not {call.info.namespace}"
            )
        return call.info.namespace

    async def _settle(self, call: Call) -> None:
        """Wait until it is on disk, where a client may rely on it."""
        if call.resource.durable:
            await self._store.flush()


def _anything(_call: Call, _obj: Object) -> None:
    return None


def _anyone(_call: Call) -> None:
    return None


def delete_options(given: Any, query: Any) -> tuple[DeleteOptions, bool]:
    """Return the options of a deletion from body and query, and whether it is a dry run. Raises ApiError 400, 422."""
    if not isinstance(given, dict):
        raise bad_request("the body of a deletion must be DeleteOptions")
    if given.get("kind", "DeleteOptions") != "DeleteOptions":
        raise bad_request(f'DeleteOptions expected, found kind "{given["kind"]}"')
    if wrong := decoding.decode(given, "meta.v1.DeleteOptions").wrong:
        raise bad_request(f"DeleteOptions: {'; '.join(wrong)}")
    grace = given.get("gracePeriodSeconds")
    if grace is None and query.get("gracePeriodSeconds"):
        text = query["gracePeriodSeconds"]
        grace = (
            int(text) if text.lstrip("-").isdigit() and text.isascii() and len(text) < 19 else text
        )
    if grace is not None and (type(grace) is not int or abs(grace) >= 1 << 31):
        raise bad_request(f"gracePeriodSeconds: not a number of seconds: {str(grace)[:80]!r}")
    propagation = given.get("propagationPolicy") or query.get("propagationPolicy")
    orphan = given.get("orphanDependents")
    if propagation is None and orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    if propagation is not None and propagation not in PROPAGATION:
        words = f"propagationPolicy: Unsupported value: {propagation!r}: supported values: {', '.join(PROPAGATION)}"
        raise ApiError(422, f'DeleteOptions.meta.k8s.io "" is invalid: {words}')
    conditions = given.get("preconditions") or {}
    dry = given.get("dryRun") or query.getall("dryRun", [])
    if not isinstance(conditions, dict) or dry not in ([], ["All"]):
        raise bad_request('preconditions must be an object, dryRun must be ["All"]')
    return (
        DeleteOptions(
            grace_period=grace,
            uid=conditions.get("uid"),
            resource_version=conditions.get("resourceVersion"),
            propagation=propagation,
        ),
        dry == ["All"],
    )
