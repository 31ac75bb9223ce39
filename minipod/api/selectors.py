"""Label and field selectors of list and watch (apimachinery/pkg/labels/selector.go, pkg/fields/selector.go)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from minipod.errors import FailedPrecondition

Object = dict[str, Any]
Match = Callable[[Object], bool]
Labels = dict[str, str]
Term = tuple[str, str, bool]  # path, value, equal

_TOKEN = re.compile(r"\s*(==|!=|=|!|<|>|\(|\)|,|[^\s=!<>(),]+)")
_KEY = re.compile(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_SYMBOLS = frozenset(("=", "==", "!=", "!", "<", ">", "(", ")", ","))


def label_selector(text: str) -> Match:
    """Return whether an object's labels fit *text*. Raises FailedPrecondition (a 400)."""
    tests = _Parser(text).parse()
    return lambda obj: all(t(obj["metadata"].get("labels") or {}) for t in tests)


class _Parser:
    """Recursive descent over tokens: requirements separated by commas."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:  # cannot be: the last alternative takes any other character
                raise self._error(text[at:])
            self._tokens.append(match[1])
            at = match.end()

    def parse(self) -> list[Callable[[Labels], bool]]:
        tests: list[Callable[[Labels], bool]] = []
        while self._tokens:
            tests.append(self._requirement())
            if self._tokens:
                self._expect(",")
                if not self._tokens:
                    raise self._error("end of text after ','")
        return tests

    def _requirement(self) -> Callable[[Labels], bool]:
        if self._peek() == "!":
            self._next()
            absent = self._key()
            return lambda labels: absent not in labels
        key = self._key()
        sign = self._peek()
        if sign in ("", ","):
            return lambda labels: key in labels
        self._next()
        if sign in ("=", "=="):
            wanted = self._value()
            return lambda labels: labels.get(key) == wanted
        if sign == "!=":
            unwanted = self._value()
            return lambda labels: labels.get(key) != unwanted
        if sign in ("in", "notin"):
            return _member(key, self._values(), inside=sign == "in")
        if sign in (">", "<"):
            return _compare(key, sign, self._number())
        raise self._error(sign)

    def _key(self) -> str:
        key = self._next()
        if not _KEY.fullmatch(key):
            raise self._error(key)
        return key

    def _value(self) -> str:
        if self._peek() in ("", ","):
            return ""
        value = self._next()
        if not _VALUE.fullmatch(value):
            raise self._error(value)
        return value

    def _values(self) -> frozenset[str]:
        self._expect("(")
        found = {self._member_value()}
        while self._peek() == ",":
            self._next()
            found.add(self._member_value())
        self._expect(")")
        return frozenset(found)

    def _member_value(self) -> str:
        return "" if self._peek() in (",", ")") else self._value()

    def _number(self) -> int:
        text = self._value()
        if not re.fullmatch(r"-?\d{1,18}", text):
            raise self._error(text)
        return int(text)

    def _peek(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def _next(self) -> str:
        if not self._tokens:
            raise self._error("end of text")
        return self._tokens.pop(0)

    def _expect(self, token: str) -> None:
        found = self._next()
        if found != token:
            raise self._error(found)

    def _error(self, found: str) -> FailedPrecondition:
        return FailedPrecondition(
            f"unable to parse requirement: found '{found[:80]}' in label selector \"{self._text[:200]}\""
        )


def _member(key: str, values: frozenset[str], *, inside: bool) -> Callable[[Labels], bool]:
    if inside:
        return lambda labels: key in labels and labels[key] in values
    return lambda labels: key not in labels or labels[key] not in values


def _compare(key: str, sign: str, number: int) -> Callable[[Labels], bool]:
    def test(labels: Labels) -> bool:
        text = labels.get(key, "")
        if not re.fullmatch(r"-?\d{1,18}", text):
            return False
        return int(text) > number if sign == ">" else int(text) < number

    return test


def field_selector(text: str) -> Match:
    """Return whether an object's fields fit *text*. Raises FailedPrecondition."""
    return field_match(field_terms(text))


def field_terms(text: str) -> list[Term]:
    """Return the terms of a field selector: dotted paths, = == !=, backslash escapes. Raises FailedPrecondition."""
    terms: list[Term] = []
    for part in filter(None, re.split(r"(?<!\\),", text)):
        match = re.fullmatch(r"([^=!]*?)(!=|==|=)(.*)", part, re.DOTALL)
        if match is None:
            raise FailedPrecondition(f"invalid field selector: {part[:200]!r}; can't understand it")
        value = re.sub(r"\\([\\,=])", r"\1", match[3])
        terms.append((match[1].strip(), value, match[2] != "!="))
    return terms


def field_match(terms: list[Term], absent: Labels | None = None) -> Match:
    """Return the test of the terms; *absent* says what a field that is not there counts as (by path; else "")."""
    missing = absent or {}
    return lambda obj: all(
        ((_field(obj, p) or missing.get(p, "")) == v) is equal for p, v, equal in terms
    )


def _field(obj: Object, path: str) -> str:
    value: Any = obj
    for name in path.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if isinstance(value, dict) else str(value)
