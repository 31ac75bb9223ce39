"""The words of Kubernetes' validation (apimachinery/pkg/util/validation/field/errors.go), and the forms of names."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import Any

from minipod.api.fields import FieldError

Object = dict[str, Any]
Errors = Iterator[FieldError]

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
QUALIFIED = re.compile(r"([-a-z0-9.]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
KEY = re.compile(r"(?!\.\.)[-._a-zA-Z0-9]{1,253}")
LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character (e.g. 'my-name', or '123-abc')"
)
SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com')"
)
KEY_WORDS = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name', or 'KEY_NAME')"
QUALIFIED_WORDS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character (e.g. 'MyName', or 'my.name')"
)
MODE_WORDS = "must be a number between 0 and 0777 (octal), both inclusive"
ID_WORDS = "must be between 0 and 2147483647, inclusive"
PORT_NAME_WORDS = (
    "must be no more than 15 characters, lower case alphanumeric or '-', with at least one letter"
)
PORT_WORDS = "must be between 1 and 65535, inclusive"


def label_words(name: str) -> str:
    """Return what is wrong with a DNS label (IsDNS1123Label), "" for nothing; of a name that is too long, just that."""
    if len(name) > 63:
        return "must be no more than 63 characters"
    return "" if LABEL.fullmatch(name) else LABEL_WORDS


def subdomain_words(name: str) -> str:
    """Return what is wrong with a DNS subdomain (IsDNS1123Subdomain), as `label_words`."""
    if len(name) > 253:
        return "must be no more than 253 characters"
    return "" if SUBDOMAIN.fullmatch(name) else SUBDOMAIN_WORDS


def shown(value: object) -> object:
    """Return a value as messages show it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else value


def invalid(path: str, value: object, words: str) -> FieldError:
    return FieldError(path, f"Invalid value: {shown(value)}: {words}")


def required(path: str, words: str = "") -> FieldError:
    return FieldError(path, f"Required value{': ' + words if words else ''}", "FieldValueRequired")


def forbidden(path: str, words: str) -> FieldError:
    return FieldError(path, f"Forbidden: {words}", "FieldValueForbidden")


def duplicate(path: str, value: object) -> FieldError:
    return FieldError(path, f"Duplicate value: {shown(value)}", "FieldValueDuplicate")


def not_found(path: str, value: object) -> FieldError:
    return FieldError(path, f"Not found: {shown(value)}", "FieldValueNotFound")


def unsupported(path: str, value: object, choices: Iterable[str]) -> FieldError:
    listed = ", ".join(f'"{c}"' for c in sorted(choices))
    words = f"Unsupported value: {shown(value)}: supported values: {listed}"
    return FieldError(path, words, "FieldValueNotSupported")


def unique_name(item: Object, path: str, taken: set[str]) -> Errors:
    """A label that no other of the list has; it joins *taken*."""
    name = item.get("name")
    if not name:
        yield required(f"{path}.name")
    elif words := label_words(name):
        yield invalid(f"{path}.name", name, words)
    elif name in taken:
        yield duplicate(f"{path}.name", name)
    taken.add(name or "")


def choice(item: Object, field: str, path: str, choices: tuple[str, ...]) -> Errors:
    """One of *choices*, or nothing."""
    value = item.get(field)
    if value not in (None, "", *choices):
        yield unsupported(f"{path}.{field}", value, choices)


def in_range(item: Object, field: str, path: str, low: int, high: int) -> Errors:
    """A number between both ends, or nothing."""
    value = item.get(field)
    if value is not None and not low <= value <= high:
        yield invalid(
            f"{path}.{field}", value, f"must be between {low} and {high}, inclusive"
        )  # IsInRange


def at_least(item: Object, field: str, path: str, low: int) -> Errors:
    value = item.get(field)
    if value is not None and value < low:
        yield invalid(f"{path}.{field}", value, f"must be greater than or equal to {low}")


def mode(item: Object, field: str, path: str) -> Errors:
    value = item.get(field)
    if value is not None and not 0 <= value <= 0o777:
        yield invalid(f"{path}.{field}", value, MODE_WORDS)


def descending_path(value: str, path: str) -> Errors:
    """A relative path that stays below (validateLocalDescendingPath)."""
    if value.startswith("/"):
        yield invalid(path, value, "must be a relative path")
    if ".." in value.split("/"):
        yield invalid(path, value, "must not contain '..'")


def file_path(value: str | None, path: str) -> Errors:
    """A path below a volume that is no name of ours (validateLocalNonReservedPath)."""
    if not value:
        yield required(path)
        return
    yield from descending_path(value, path)
    if value.startswith("..") and not value.startswith("../"):
        yield invalid(path, value, "must not start with '..'")


def ip(value: str, path: str) -> Errors:
    """An address without a zone: Python takes any text for one, also a line of nftables' language."""
    try:
        wrong = getattr(ipaddress.ip_address(value), "scope_id", None) is not None
    except ValueError:
        wrong = True
    if wrong:
        yield invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
