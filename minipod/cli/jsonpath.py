"""Templates of JSONPath, as `-o jsonpath=` and `wait --for=jsonpath=` take them: fields, indices and wildcards.

    {.status.podIP}    .spec.containers[0].image    {.items[*].metadata.name}    {.metadata.labels.a\\.b/c}    {['a.b']}{"\\n"}

What is not there is empty, as for `kubectl get`. kubectl's filters, slices and loops are an error that says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from minipod.errors import FailedPrecondition

EVERY = object()  # the step of a wildcard
Step = object  # a field's name, the index of an item, EVERY
Template = Callable[[Any], str]

_STEP = re.compile(
    r"""\.?(?P<name>(?:\\.|[^\\.,:;?@()\[\]{}'"\s])+)   # .metadata; a dot in a name is \.
      | \[(?P<index>-?\d+)\]
      | \[(?P<every>\*)\]
      | \[(?P<quote>['"])(?P<key>[^'"]*)(?P=quote)\]
    """,
    re.VERBOSE,
)
_PART = re.compile(r"""(?P<text>[^{}]+)|\{(?P<literal>"(?:\\.|[^"\\])*")\}|\{(?P<path>[^{}]*)\}""")


def parse(text: str) -> Template:
    """Return what prints the template *text* of an object. Raises FailedPrecondition that says what of it can't be read."""
    if "{" not in text and "}" not in text:
        text = f"{{{text}}}"
    parts: list[str | tuple[Step, ...]] = []
    at = 0
    while at < len(text):
        found = _PART.match(text, at)
        if found is None:
            raise _unreadable(text, text[at:], "a brace is not closed")
        at = found.end()
        if found["path"] is not None:
            parts.append(_steps(text, found["path"].strip()))
        else:
            parts.append(found["text"] or json.loads(found["literal"]))
    return lambda obj: "".join(
        part if isinstance(part, str) else " ".join(map(_shown, _values(obj, part)))
        for part in parts
    )


def _steps(text: str, path: str) -> tuple[Step, ...]:
    steps: list[Step] = []
    at = 1 if path.startswith("$") else 0
    while at < len(path) and path[at:] != ".":
        found = _STEP.match(path, at)
        if found is None:
            raise _unreadable(text, path[at:], "only fields, [0], [*] and ['name'] are known")
        at = found.end()
        if found["index"]:
            steps.append(int(found["index"]))
        elif found["every"] or found["name"] == "*":
            steps.append(EVERY)
        else:
            steps.append(re.sub(r"\\(.)", r"\1", found["name"] or "") or found["key"])
    return tuple(steps)


def _values(obj: Any, steps: tuple[Step, ...]) -> Iterable[Any]:
    """Yield what the steps lead to: nothing where one is missing, several behind a wildcard."""
    if not steps:
        yield obj
        return
    step, rest = steps[0], steps[1:]
    if step is EVERY:
        inner = obj.values() if isinstance(obj, dict) else obj if isinstance(obj, list) else ()
        for one in inner:
            yield from _values(one, rest)
        return
    item = isinstance(obj, list) and isinstance(step, int) and -len(obj) <= step < len(obj)
    if item or (isinstance(obj, dict) and step in obj):
        yield from _values(obj[step], rest)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _unreadable(text: str, rest: str, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"jsonpath {text!r}: can't read {rest!r}: {why}",
        hint="like {.status.podIP} or {.items[*].metadata.name}; kubectl knows filters and loops",
    )
