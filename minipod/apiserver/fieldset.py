"""Sets of fields, as managedFields names them: paths through an object along its type (structured-merge-diff's fieldpath and typed).

A path is a tuple of elements: `f:name` (a field or map key), `k:{"name":"a"}` (an item of an associative list), `v:"x"` (an item of a set).
A list of another kind, an atomic object and a scalar are leaves. `collect` maps the paths of an object to their values: comparing two of
these maps tells what was added, changed and removed. FieldsV1 is the nested form of a set of paths.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from minipod.api import types
from minipod.api.types import Field, Type

Object = dict[str, Any]
Path = tuple[str, ...]
Fields = dict[
    Path, Any
]  # a path and its value: of leaves, None for items and maps that are members by themselves

# What the system owns and nobody manages (stripMeta)
_NOBODYS = frozenset(
    ("f:metadata", f"f:{name}")
    for name in (
        "name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields",
        "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds",
    )
)  # fmt: skip
_KEY_DEFAULTS = {"protocol": "TCP"}  # of list keys: a port without a protocol is a TCP port


def collect(obj: Object, type_name: str, *, maps: bool = False) -> Fields:
    """Return the fields of an object; with *maps* a map is a field of its own beside its entries, as an update records it."""
    found: Fields = {}
    kind = types.object_type(type_name)
    for path, value in _object(obj, kind, (), maps=maps):
        if path[:2] not in _NOBODYS and path not in (("f:apiVersion",), ("f:kind",)):
            found[path] = value
    return found


def _object(value: Object, kind: Type, path: Path, *, maps: bool) -> Iterator[tuple[Path, Any]]:
    for name, item in value.items():
        field = kind.fields.get(name)
        here = (*path, f"f:{name}")
        if field is None:
            yield here, item
        elif field.container == "list" and isinstance(item, list):
            yield from _list(item, field, here, maps=maps)
        elif field.container == "map" and isinstance(item, dict):
            yield from _map(item, field, here, maps=maps)
        else:
            yield from _value(item, field.element, here, maps=maps)


def _value(value: Any, element: str, path: Path, *, maps: bool) -> Iterator[tuple[Path, Any]]:
    kind = object_of(element)
    if kind is None or kind.atomic or not isinstance(value, dict) or not value:
        yield path, value
    else:
        yield from _object(value, kind, path, maps=maps)


def _map(value: Object, field: Field, path: Path, *, maps: bool) -> Iterator[tuple[Path, Any]]:
    if field.atomic or not value:
        yield path, value
        return
    if maps:
        yield path, None
    for key, item in value.items():
        yield from _value(item, field.element, (*path, f"f:{key}"), maps=maps)


def _list(value: list[Any], field: Field, path: Path, *, maps: bool) -> Iterator[tuple[Path, Any]]:
    if not field.keys and not field.is_set:
        yield path, value
        return
    for item in value:
        here = (*path, element_of(item, field))
        yield here, None
        if field.keys and isinstance(item, dict):
            yield from _value(item, field.element, here, maps=maps)


def object_of(element: str) -> Type | None:
    """Return the object type called *element*, None for scalars and lists."""
    if element.startswith(("[]", "{}")):
        return None
    found = types.lookup(element)
    return found if isinstance(found, Type) else None


def element_of(item: Any, field: Field) -> str:
    """Return the path element of an item of an associative list or a set."""
    if not field.keys or not isinstance(item, dict):
        return "v:" + json.dumps(item, separators=(",", ":"), ensure_ascii=False)
    key = {k: item.get(k, _KEY_DEFAULTS.get(k)) for k in sorted(field.keys)}
    known = {k: v for k, v in key.items() if v is not None}
    return "k:" + json.dumps(known, separators=(",", ":"), ensure_ascii=False)


# -- FieldsV1


def nest(paths: Iterable[Path]) -> Object:
    """Return a set of paths as FieldsV1. A member that has members below it is marked by "."."""
    root: Object = {}
    members = sorted(paths)
    inner = {p[:n] for p in members for n in range(1, len(p))}
    for path in members:
        at = root
        for element in path:
            at = at.setdefault(element, {})
        if path in inner:
            at["."] = {}
    return root


def flatten(fields: Any) -> set[Path]:
    """Return the paths of a FieldsV1. What is no field set is no field."""
    found: set[Path] = set()
    waiting: list[tuple[Path, Any]] = [((), fields)]
    while waiting:
        path, value = waiting.pop()
        if not isinstance(value, dict):
            continue
        if path and (not value or "." in value):
            found.add(path)
        waiting += [((*path, k), v) for k, v in value.items() if k != "."]
    return found


def written(path: Path) -> str:
    """Return a path as messages show it: .spec.containers[name="a"].image."""
    out = ""
    for element in path:
        kind, text = element[:2], element[2:]
        if kind == "f:":
            out += f".{text}"
        elif kind == "k:":
            keys = ",".join(f"{k}={json.dumps(v)}" for k, v in json.loads(text).items())
            out += f"[{keys}]"
        else:
            out += f"[={text}]"
    return out


# -- merging an applied configuration


def merge(live: Any, applied: Any, element: str, field: Field | None = None) -> Any:
    """Return *live* with the fields of *applied*: objects and associative lists merge, everything else is replaced."""
    if field is not None and field.container == "list":
        mergeable = bool(field.keys or field.is_set) and isinstance(live, list)
        return _merge_lists(live, applied, field) if mergeable else applied
    if not isinstance(live, dict) or not isinstance(applied, dict):
        return applied
    if field is not None and field.container == "map":
        if field.atomic:
            return applied
        return {**live, **{k: merge(live.get(k), v, field.element) for k, v in applied.items()}}
    kind = object_of(element)
    if kind is None or kind.atomic or (field is not None and field.atomic):
        return applied
    merged = dict(live)
    for name, value in applied.items():
        known = kind.fields.get(name)
        merged[name] = (
            value if known is None else merge(live.get(name), value, known.element, known)
        )
    return merged


def _merge_lists(live: list[Any], applied: list[Any], field: Field) -> list[Any]:
    """Interleave: items of *live* alone keep their place, the others come in the order of *applied*."""
    mine = {element_of(i, field): i for i in applied}
    theirs = {element_of(i, field): i for i in live}
    wanted, have = list(mine), list(theirs)
    merged: list[Any] = []
    done: set[str] = set()
    at = 0
    for name in wanted:
        shared = name in theirs
        while at < len(have) and (have[at] not in mine or have[at] in done):
            if have[at] not in mine:
                merged.append(theirs[have[at]])
            at += 1
        item = mine[name]
        merged.append(merge(theirs[name], item, field.element) if shared and field.keys else item)
        done.add(name)
        if at < len(have) and have[at] == name:
            at += 1
    return merged + [theirs[n] for n in have[at:] if n not in mine]


def remove(obj: Any, gone: set[Path], kept: set[Path], element: str) -> Any:
    """Return *obj* without the fields *gone*; a container goes with its last field, an item stays while *kept* has some of it."""
    if not gone:
        return obj
    return _Removal(gone, kept).walk(obj, (), element, None)


class _Removal:
    """One walk: which paths go, which lead to some that go, which lead to some that stay."""

    def __init__(self, gone: set[Path], kept: set[Path]) -> None:
        self._gone = gone
        self._leads = {p[:n] for p in gone for n in range(1, len(p))}
        self._kept = {p[:n] for p in kept for n in range(1, len(p) + 1)}

    def walk(self, value: Any, path: Path, element: str, field: Field | None) -> Any:
        """Return what is left of *value*."""
        if field is not None and field.container == "list":
            return self._items(value, path, field)
        kind = object_of(element)
        entries = field is not None and field.container == "map"
        if not isinstance(value, dict) or not (kind or entries):
            return value
        left: Object = {}
        for name, item in value.items():
            here = (*path, f"f:{name}")
            known = kind.fields.get(name) if kind is not None and not entries else None
            inner = known.element if known else field.element if entries and field else "any"
            if here in self._leads:
                if rest := self.walk(item, here, inner, known):
                    left[name] = rest
            elif here not in self._gone or here in self._kept:
                left[name] = item
        return left

    def _items(self, value: Any, path: Path, field: Field) -> Any:
        if not isinstance(value, list) or not (field.keys or field.is_set):
            return value
        left: list[Any] = []
        for item in value:
            here = (*path, element_of(item, field))
            if here in self._gone and here not in self._kept:
                continue
            left.append(self.walk(item, here, field.element, None) if here in self._leads else item)
        return left
