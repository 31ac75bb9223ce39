"""The query of a list, watch or write, checked (apimachinery/pkg/apis/meta/internalversion/validation)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from minipod.api.fields import FieldError, FieldErrors
from minipod.apiserver.requestinfo import is_true
from minipod.apiserver.status import bad_request

NUMBER_MAX = (1 << 63) - 1
_FALSE = ("", "0", "f", "F", "false", "FALSE", "False")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """metav1.ListOptions."""

    labels: str = ""
    fields: str = ""
    limit: int = 0  # 0: all
    token: str = ""  # continue
    version: int | None = None  # resourceVersion; None: not given
    match: str = ""  # resourceVersionMatch
    timeout: int | None = None  # seconds
    bookmarks: bool = False
    initial: bool | None = None  # sendInitialEvents


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteQuery:
    """What create, update and patch share."""

    dry_run: bool
    validation: str  # Strict, Warn, Ignore
    manager: str
    force: bool
    lenient: bool


def number(query: Mapping[str, str], name: str) -> int | None:
    """Return a number of the query, None where it is not given. Raises ApiError 400."""
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > NUMBER_MAX:
        raise bad_request(f'{name}: Invalid value: "{text[:80]}": must be a non-negative integer')
    return int(text)


def boolean(query: Mapping[str, str], name: str) -> bool | None:
    """Return a truth of the query. Raises ApiError 400."""
    text = query.get(name)
    if text is None:
        return None
    if not is_true(text) and text not in _FALSE:
        raise bad_request(f'{name}: Invalid value: "{text[:80]}": must be true or false')
    return is_true(text)


def list_query(query: Mapping[str, str]) -> ListQuery:
    """Return the options of a list or watch. Raises ApiError 400, FieldErrors (422)."""
    made = ListQuery(
        labels=query.get("labelSelector", ""),
        fields=query.get("fieldSelector", ""),
        limit=number(query, "limit") or 0,
        token=query.get("continue", ""),
        version=number(query, "resourceVersion"),
        match=query.get("resourceVersionMatch", ""),
        timeout=number(query, "timeoutSeconds"),
        bookmarks=bool(boolean(query, "allowWatchBookmarks")),
        initial=boolean(query, "sendInitialEvents"),
    )
    errors = _list_errors(made, watch=is_true(query.get("watch")))
    if errors:
        raise FieldErrors('ListOptions.meta.k8s.io ""', errors)
    return made


def _list_errors(made: ListQuery, *, watch: bool) -> list[FieldError]:
    def forbidden(path: str, words: str) -> FieldError:
        return FieldError(path, f"Forbidden: {words}", "FieldValueForbidden")

    found: list[FieldError] = []
    if watch:
        if made.initial is not None and made.match != "NotOlderThan":
            words = "resourceVersionMatch must be NotOlderThan when sendInitialEvents is set"
            found.append(forbidden("resourceVersionMatch", words))
        elif made.match and made.initial is None:
            words = (
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            )
            found.append(forbidden("resourceVersionMatch", words))
        return found
    if made.initial is not None:
        found.append(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if made.match and made.version is None:
        words = "resourceVersionMatch is forbidden unless resourceVersion is provided"
        found.append(forbidden("resourceVersionMatch", words))
    elif made.match and made.token:
        words = "resourceVersionMatch is forbidden when continue is provided"
        found.append(forbidden("resourceVersionMatch", words))
    elif made.match not in ("", "Exact", "NotOlderThan"):
        words = f'Unsupported value: "{made.match}": supported values: "", "Exact", "NotOlderThan"'
        found.append(FieldError("resourceVersionMatch", words, "FieldValueNotSupported"))
    elif made.match == "Exact" and made.version == 0:
        words = 'resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'
        found.append(forbidden("resourceVersionMatch", words))
    return found


def _program(user_agent: str) -> str:
    """Return who writes, when it does not name itself (managedFields): what of its first word can be shown."""
    shown = "".join(c for c in user_agent.partition("/")[0] if c.isprintable())
    return shown[:128] or "unknown"


def write_query(query: Mapping[str, str], user_agent: str) -> WriteQuery:
    """Return the options of a write. Raises FieldErrors (422)."""
    found: list[FieldError] = []
    dry = query.get("dryRun")
    if dry not in (None, "", "All"):
        words = f'Unsupported value: "{dry}": supported values: "All"'
        found.append(FieldError("dryRun", words, "FieldValueNotSupported"))
    mode = query.get("fieldValidation") or "Warn"
    if mode not in ("Strict", "Warn", "Ignore"):
        words = f'Unsupported value: "{mode}": supported values: "", "Ignore", "Strict", "Warn"'
        found.append(FieldError("fieldValidation", words, "FieldValueNotSupported"))
    manager = query.get("fieldManager") or _program(user_agent)
    if len(manager) > 128 or not manager.isprintable():
        words = (
            f'Invalid value: "{manager[:200]}": must be printable and no more than 128 characters'
        )
        found.append(FieldError("fieldManager", words))
    if found:
        raise FieldErrors('CreateOptions.meta.k8s.io ""', found)
    return WriteQuery(
        dry_run=dry == "All",
        validation=mode,
        manager=manager,
        force=bool(boolean(query, "force")),
        lenient=mode == "Ignore" or is_true(query.get("lenient")),
    )
