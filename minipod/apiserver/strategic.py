"""Strategic merge patch: merges along the type, lists by their merge keys (apimachinery/pkg/util/strategicpatch/patch.go).

Directives: `$patch: replace|delete|merge` in an object or in an item of a merged list, `$retainKeys` (only these keys stay),
`$deleteFromPrimitiveList/x` (values that go) and `$setElementOrder/x` (the order of the items the client knows; the others keep
their place relative to what was there). A field without a type, or a list without a merge key, is replaced.
"""

from __future__ import annotations

from typing import Any

from minipod.api import types
from minipod.api.types import Field, Type
from minipod.apiserver.status import bad_request

Object = dict[str, Any]
Items = list[Any]

PATCH, RETAIN = "$patch", "$retainKeys"
ORDER, DELETE = "$setElementOrder/", "$deleteFromPrimitiveList/"


def merge(original: Object, patch: Object, kind: Type | None) -> Object:
    """Return *original* merged with *patch*; *original* is changed. Raises ApiError 400 for a patch that can't be."""
    patch = dict(patch)
    directive = patch.pop(PATCH, None)
    if directive == "replace":
        return _clean(patch)  # type: ignore[no-any-return]
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"unknown patch directive: {directive!r}")
    _retain_keys(original, patch)
    for key in [k for k in patch if k.startswith(ORDER)]:
        _merge_in_order(original, patch, key, kind)
    for key, value in patch.items():
        if key.startswith(DELETE):
            _delete_values(original, key.removeprefix(DELETE), value)
        elif value is None:
            original.pop(key, None)
        else:
            original[key] = _merge_value(original.get(key), value, _field(kind, key))
    return original


def _field(kind: Type | None, name: str) -> Field | None:
    return kind.fields.get(name) if kind is not None else None


def _type_of(field: Field | None) -> Type | None:
    if field is None or field.element[:2] in ("[]", "{}"):
        return None
    found = types.lookup(field.element)
    return found if isinstance(found, Type) else None


def _merge_value(original: Any, value: Any, field: Field | None) -> Any:
    if isinstance(original, dict) and isinstance(value, dict):
        if field is not None and "replace" in field.strategies:
            return _clean(value)
        inner = None if field is not None and field.container == "map" else _type_of(field)
        return merge(original, value, inner)
    if isinstance(original, list) and isinstance(value, list):
        if field is None or field.merge_key is None:
            return _clean(value)
        return _merge_list(original, value, field)
    return _clean(value)


def _merge_list(original: Items, patch: Items, field: Field) -> Items:
    key = field.merge_key or ""
    if not key:  # scalars: a set
        if any(isinstance(v, (dict, list)) for v in patch):
            raise bad_request(f"{field.name}: a list of scalars can't be merged with objects")
        return list({_identity(v, ""): v for v in [*original, *patch]}.values())
    for item in (*original, *patch):
        if not isinstance(item, dict):
            raise bad_request(f"{field.name}: expected objects in a list that merges by {key}")
    if any(item.get(PATCH) == "replace" for item in patch):
        return [_clean(item) for item in patch if item.get(PATCH) != "replace" or len(item) > 1]
    return _merge_items(original, patch, key, field)


def _merge_items(original: Items, patch: Items, key: str, field: Field) -> Items:
    merged: list[Object | None] = list(original)
    places = {_identity(old, key): i for i, old in reversed(list(enumerate(original)))}
    for item in patch:
        if key not in item:
            raise bad_request(
                f"{field.name}: an item does not contain the declared merge key: {key}"
            )
        at = places.get(_identity(item, key))
        if item.get(PATCH) == "delete":
            if at is not None:
                merged[at] = None
                del places[_identity(item, key)]
        elif at is None:
            places[_identity(item, key)] = len(merged)
            merged.append(_clean(item))
        else:
            merged[at] = merge(merged[at] or {}, item, _type_of(field))
    return [item for item in merged if item is not None]


def _retain_keys(original: Object, patch: Object) -> None:
    if RETAIN not in patch:
        return
    kept = patch.pop(RETAIN)
    if not isinstance(kept, list):
        raise bad_request(f"{RETAIN} must be a list of names")
    for name, value in patch.items():
        if value is not None and not name.startswith("$") and name not in kept:
            raise bad_request(f"{RETAIN} must contain all fields of the patch, {name} is missing")
    for name in [n for n in original if n not in kept]:
        del original[name]


def _delete_values(original: Object, name: str, gone: Any) -> None:
    current = original.get(name)
    if not isinstance(gone, list):
        raise bad_request(f"{DELETE}{name} must be a list")
    if isinstance(current, list):
        unwanted = {_identity(v, "") for v in gone}
        original[name] = [v for v in current if _identity(v, "") not in unwanted]


# -- order


def _merge_in_order(original: Object, patch: Object, directive: str, kind: Type | None) -> None:
    """Merge one list, then bring it into the order that the client names."""
    name = directive.removeprefix(ORDER)
    order, wanted = patch.pop(directive), patch.pop(name, None)
    before = original.get(name)
    field = _field(kind, name)
    if not isinstance(order, list) or field is None or field.merge_key is None:
        raise bad_request(f"{directive} needs a list that merges")
    if wanted is not None and not isinstance(wanted, list):
        raise bad_request(f"{name} must be a list")
    gone = patch.pop(DELETE + name, None)
    if gone is not None:
        _delete_values(original, name, gone)
    current = original.get(name)
    current = current if isinstance(current, list) else []
    merged = _merge_list(current, wanted, field) if wanted else current
    if not merged:
        if before is not None or wanted is not None:
            original[name] = merged
        return
    known = {_identity(item, field.merge_key): i for i, item in enumerate(order)}
    before = before if isinstance(before, list) else []
    original[name] = _ordered(merged, known, before, field.merge_key)


def _identity(item: Any, key: str) -> Any:
    value = item.get(key) if key and isinstance(item, dict) else item
    return value if not isinstance(value, (dict, list)) else repr(value)


def _ordered(merged: Items, known: dict[Any, int], before: Items, key: str) -> Items:
    """Merge the client's items, in its order, with the others in theirs (normalizeElementOrder)."""
    server = {_identity(item, key): i for i, item in enumerate(before)}
    listed = [i for i in merged if _identity(i, key) in known]
    listed.sort(key=lambda i: known[_identity(i, key)])
    others = [i for i in merged if _identity(i, key) not in known]
    others.sort(key=lambda i: server.get(_identity(i, key), len(server)))
    result: Items = []
    i = j = 0
    while i < len(others) and j < len(listed):
        other, mine = server.get(_identity(others[i], key)), server.get(_identity(listed[j], key))
        if other is not None and mine is not None and other < mine:
            result.append(others[i])
            i += 1
        else:
            result.append(listed[j])
            j += 1
    return result + others[i:] + listed[j:]


def _clean(value: Any) -> Any:
    """Return a value of a patch without directives and nulls, as it enters the object."""
    if isinstance(value, dict):
        if value.get(PATCH) == "delete":
            return {}
        return {
            k: _clean(v)
            for k, v in value.items()
            if v is not None and k not in (PATCH, RETAIN) and not k.startswith((ORDER, DELETE))
        }
    if isinstance(value, list):
        return [_clean(v) for v in value if not (isinstance(v, dict) and v.get(PATCH) == "delete")]
    return value
