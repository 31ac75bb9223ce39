"""The scale of an object (autoscaling/v1): its replicas as a small object of their own, for `kubectl scale` and autoscalers.

Any kind whose resource has the subresource `scale` and `spec.replicas` has one; `spec.selector` is a label selector or a plain map.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web  # noqa: TC002 handlers are read at run time

from minipod.api import decoding
from minipod.api.fields import FieldErrors
from minipod.api.messages import invalid
from minipod.apiserver import codec, managed, patch
from minipod.apiserver.call import Call
from minipod.apiserver.query import write_query
from minipod.apiserver.status import bad_request
from minipod.apiserver.store_sqlite import SqliteStore

Object = dict[str, Any]

TYPE = "autoscaling.v1.Scale"
KEPT = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


class ScaleVerbs:
    """Their handlers."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def get(self, call: Call) -> web.Response:
        """GET .../scale."""
        return call.reply(scale_of(self._store.load(call.key)))

    async def update(self, call: Call) -> web.Response:
        """PUT .../scale."""
        media = call.request.headers.get("Content-Type", "").partition(";")[0].strip()
        wanted = codec.parse(await call.body(), media).value
        return await self._write(call, lambda _: wanted)

    async def patch(self, call: Call) -> web.Response:
        """PATCH .../scale."""
        media = call.request.content_type
        wanted = patch.parse(await call.body(), media).value
        return await self._write(call, lambda scale: patch.apply(scale, wanted, media, TYPE))

    async def _write(self, call: Call, change: Any) -> web.Response:
        options = write_query(call.request.query, call.request.headers.get("User-Agent", ""))

        def scaled(current: Object) -> Object:
            replicas, version = _checked(change(scale_of(current)), call.info.name)
            wanted = {**current, "spec": {**current["spec"], "replicas": replicas}}
            wanted["metadata"] = {
                **current["metadata"],
                **({"resourceVersion": version} if version else {}),
            }
            self._store.check_version(call.key, current, wanted)
            managed.updated(current, wanted, options.manager, call.stored_resource, "scale")
            return wanted

        write = self._store.preview if options.dry_run else self._store.mutate
        made = await write(*call.key, scaled)
        await self._store.flush()
        return call.reply(scale_of(made))


def scale_of(obj: Object) -> Object:
    """Return the Scale of an object."""
    metadata = {k: v for k, v in obj["metadata"].items() if k in KEPT}
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    return {
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": spec.get("replicas", 1)},
        "status": {"replicas": status.get("replicas", 0), "selector": selector_text(spec.get("selector") or {})},
    }  # fmt: skip


def selector_text(selector: Object) -> str:
    """Return a label selector as text (LabelSelectorAsSelector): a map of labels, or metav1.LabelSelector."""
    structured = selector.keys() <= {"matchLabels", "matchExpressions"}
    labels = selector.get("matchLabels") or {} if structured else selector
    terms = [f"{k}={v}" for k, v in sorted(labels.items())]
    for one in (selector.get("matchExpressions") or []) if structured else []:
        key, values = one.get("key", ""), ",".join(sorted(one.get("values") or []))
        words = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        terms.append(words.get(one.get("operator", ""), key))
    return ",".join(terms)


def _checked(scale: Any, name: str) -> tuple[int, str]:
    """Return the replicas and the version that a client's Scale asks for. Raises ApiError 400, FieldErrors."""
    if not isinstance(scale, dict) or scale.get("kind", "Scale") != "Scale":
        raise bad_request("the body of the request must be a Scale")
    if findings := decoding.decode(scale, TYPE).wrong:
        raise bad_request(
            f'Scale in version "v1" cannot be handled as a Scale: {"; ".join(findings)}'
        )
    metadata = scale.get("metadata") or {}
    if metadata.get("name") not in (None, "", name):
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})"
        )
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if replicas < 0:
        error = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise FieldErrors(f'Scale.autoscaling "{name}"', [error])
    return replicas, metadata.get("resourceVersion", "")
