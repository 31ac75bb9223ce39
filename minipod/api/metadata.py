"""Validation of metadata: names, labels, annotations, finalizers, owners (apimachinery/pkg/api/validation/objectmeta.go)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from minipod.api.fields import FieldError
from minipod.api.messages import (
    SUBDOMAIN,
    SUBDOMAIN_WORDS,
    invalid,
    label_words,
    required,
    subdomain_words,
)

Object = dict[str, Any]
Errors = Iterator[FieldError]

ANNOTATIONS_MAX = 256 << 10  # bytes, keys and values together
IMMUTABLE = "field is immutable"
_NAME_PART = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_NAME_PART_WORDS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    " (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    " alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    " '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def qualified_name(text: str) -> str:
    """Return what is wrong with a qualified name (prefix/name), "" for nothing."""
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        return "a qualified name " + _NAME_PART_WORDS
    if slash and (not prefix or len(prefix) > 253 or not SUBDOMAIN.fullmatch(prefix)):
        return "prefix part " + SUBDOMAIN_WORDS
    if not name:
        return "name part must be non-empty"
    if len(name) > 63:
        return "name part must be no more than 63 characters"
    return "" if _NAME_PART.fullmatch(name) else _NAME_PART_WORDS


def name_words(name: str, rule: str, *, prefix: bool = False) -> str:
    """Return what is wrong with an object's name by its kind's rule (subdomain, label, path), "" for nothing.

    With *prefix* it is a generateName: an end that a suffix makes right is right.
    """
    if rule == "path":
        if name in (".", ".."):
            return f"may not be '{name}'"
        bad = next((c for c in "/%" if c in name), "")
        return f"may not contain '{bad}'" if bad else ""
    checked = re.sub(r"-+$", "a", name) if prefix else name
    return label_words(checked) if rule == "label" else subdomain_words(checked)


STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


def validate(obj: Object, *, namespaced: bool, rule: str) -> Errors:
    """Yield what is wrong with a new object's metadata."""
    metadata = obj["metadata"]
    name, generate = metadata.get("name"), metadata.get("generateName")
    if generate and (words := name_words(generate, rule, prefix=True)):
        yield invalid("metadata.generateName", generate, words)
    if not name and not generate:
        yield required("metadata.name", "name or generateName is required")
    elif name and (words := name_words(name, rule)):
        yield invalid("metadata.name", name, words)
    if not namespaced and metadata.get("namespace"):
        yield FieldError(
            "metadata.namespace", "Forbidden: not allowed on this type", "FieldValueForbidden"
        )
    yield from common(metadata)


def common(metadata: Object, path: str = "metadata") -> Errors:
    """Yield what is wrong with labels, annotations, finalizers, owners: new and changed objects."""
    yield from labels(metadata.get("labels") or {}, f"{path}.labels")
    size = 0
    for key, value in (metadata.get("annotations") or {}).items():
        size += len(key) + len(value)
        if words := qualified_name(key.lower()):
            yield invalid(f"{path}.annotations", key, words)
    if size > ANNOTATIONS_MAX:
        words = f"Too long: may not be more than {ANNOTATIONS_MAX} bytes"
        yield FieldError(f"{path}.annotations", words, "FieldValueTooLong")
    for i, finalizer in enumerate(metadata.get("finalizers") or []):
        words = qualified_name(finalizer)
        if not words and "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            words = "name is neither a standard finalizer name nor is it fully qualified"
        if words:
            yield invalid(f"{path}.finalizers[{i}]", finalizer, words)
    yield from _owners(metadata.get("ownerReferences") or [], f"{path}.ownerReferences")


def labels(given: Object, path: str) -> Errors:
    """Yield what is wrong with labels."""
    for key, value in given.items():
        if words := qualified_name(key):
            yield invalid(path, key, words)
        if len(value) > 63:
            yield invalid(path, value, "must be no more than 63 characters")
        elif value and not _NAME_PART.fullmatch(value):
            yield invalid(path, value, _VALUE_WORDS)


def _owners(owners: list[Object], path: str) -> Errors:
    controllers = 0
    for i, owner in enumerate(owners):
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                yield invalid(f"{path}[{i}].{key}", "", f"{key} must not be empty")
        controllers += bool(owner.get("controller"))
    if controllers > 1:
        words = "Only one reference can have Controller set to true"
        yield invalid(path, f"{controllers} controllers", words)


def validate_update(wanted: Object, current: Object) -> Errors:
    """Yield what an update may not change."""
    new, old = wanted["metadata"], current["metadata"]
    for key in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):  # fmt: skip
        if new.get(key) != old.get(key) and new.get(key) is not None:
            yield invalid(f"metadata.{key}", new.get(key), IMMUTABLE)
    if old.get("deletionTimestamp"):
        before = set(old.get("finalizers") or [])
        added = [f for f in new.get("finalizers") or [] if f not in before]
        if added:
            words = f"Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added}"
            yield FieldError("metadata.finalizers", words, "FieldValueForbidden")
    yield from common(new)
