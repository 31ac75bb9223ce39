"""The types of Kubernetes' objects: names of fields, their types, list keys and merge keys, as a table of facts (types.json.gz).

The table is made by scripts/generate-types. One string per field: its type (str bool int32 int64 float bytes time any, the name of
another type, `[]` or `{}` before the type of the elements), then words: `required`, `map=K,K` (a list whose items are
known by these keys), `set`, `atomic` (an object that is replaced as one), `merge=K` (strategic merge patch merges by K; without K a
list of scalars), `retainKeys`, `replace`. A list without `map` or `set` is atomic for server-side apply.

Owns the reading of the table; `decoding` walks objects along it, `apiserver.strategic` and `apiserver.fieldset` merge along it.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from minipod.api.types_newer import NEWER

SCALARS = frozenset(("str", "bool", "int32", "int64", "float", "bytes", "time", "any"))


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object. `element` is the type in a list or map, else the field's own type."""

    name: str
    element: str
    container: str = ""  # "", "list" or "map"
    required: bool = False
    keys: tuple[str, ...] = ()  # of an associative list
    is_set: bool = False
    atomic: bool = False
    merge_key: str | None = None  # "" for a list of scalars that merges
    strategies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Type:
    """One object type."""

    name: str
    fields: dict[str, Field]
    atomic: bool = False
    gvk: tuple[str, str, str] = ("", "", "")


@cache
def _table() -> dict[str, dict[str, str] | str]:
    raw = resources.files("minipod.api").joinpath("types.json.gz").read_bytes()
    loaded: dict[str, dict[str, str] | str] = json.loads(gzip.decompress(raw))
    for name, fields in NEWER.items():
        entry = loaded.setdefault(name, {})
        assert isinstance(entry, dict)
        loaded[name] = {**fields, **entry}
    return loaded


@cache
def lookup(name: str) -> Type | str:
    """Return the type called *name*, or the scalar word that it stands for. Raises KeyError for an unknown name."""
    if name in SCALARS:
        return name
    if name in ("resource.Quantity", "intstr.IntOrString"):
        return name
    entry = _table()[name]
    if isinstance(entry, str):
        return entry
    fields = {n: _field(n, text) for n, text in entry.items() if not n.startswith("$")}
    group, version, kind = entry.get("$gvk", "- - -").split()
    return Type(name, fields, "$atomic" in entry, (group.strip("-"), version, kind))


def object_type(name: str) -> Type:
    """Return the object type called *name*. Raises KeyError when there is none."""
    found = lookup(name)
    if isinstance(found, str):
        raise KeyError(name)
    return found


def names() -> list[str]:
    """Return the names of all types."""
    return list(_table())


def _field(name: str, text: str) -> Field:
    kind, *words = text.split(" ")
    container = {"[]": "list", "{}": "map"}.get(kind[:2], "")
    valued = dict(w.split("=", 1) for w in words if "=" in w)
    keys = valued.get("map", "")
    return Field(
        name,
        kind[2:] if container else kind,
        container,
        required="required" in words,
        keys=tuple(keys.split(",")) if keys else (),
        is_set="set" in words,
        atomic="atomic" in words,
        merge_key=valued.get("merge"),
        strategies=tuple(w for w in words if w in ("retainKeys", "replace")),
    )
