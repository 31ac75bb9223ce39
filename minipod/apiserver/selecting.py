"""The selectors of a request as one test over stored objects; only the fields that a kind offers can be selected by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minipod.api import selectors, types
from minipod.apiserver.query import ListQuery
from minipod.apiserver.resources import Resource
from minipod.apiserver.status import bad_request

Object = dict[str, Any]
ALWAYS = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True, slots=True)
class Selection:
    """*fits* is None where everything fits."""

    fits: Callable[[Object], bool] | None = None
    text: str = ""
    name: str = ""  # when only an object of this name can fit


def select(resource: Resource, query: ListQuery) -> Selection:
    """Return the selection of a list or watch. Raises ApiError 400."""
    tests: list[selectors.Match] = []
    name = ""
    if query.labels:
        tests.append(selectors.label_selector(query.labels))
    if query.fields:
        terms = selectors.field_terms(query.fields)
        for path, _, _ in terms:
            if path not in (*ALWAYS, *resource.fields):
                raise bad_request(f'field label not supported: "{path}"')
        name = next((v for path, v, equal in terms if path == "metadata.name" and equal), "")
        tests.append(_fields(resource, terms))
    if not tests:
        return Selection()
    text = f"{query.labels}\0{query.fields}"
    return Selection(lambda obj: all(test(obj) for test in tests), text, name)


def _fields(resource: Resource, terms: list[selectors.Term]) -> selectors.Match:
    """Return the test of fields: they are those of the version that is served, and a bool that is not there is false."""
    absent = {path: "false" for path, _, _ in terms if _is_bool(resource.type, path)}
    test, served = selectors.field_match(terms, absent), resource.from_storage
    return test if served is None else lambda obj: test(served(obj))


def _is_bool(type_name: str, path: str) -> bool:
    kind: types.Type | str = types.lookup(type_name) if type_name else ""
    for name in path.split("."):
        field = kind.fields.get(name) if isinstance(kind, types.Type) else None
        if field is None or field.container:
            return False
        kind = types.lookup(field.element)
    return kind == "bool"
