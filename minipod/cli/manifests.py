"""Manifests on the command line: files, directories of them and stdin, as objects that have a kind and metadata."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from minipod.cli.client import Object
from minipod.errors import FailedPrecondition

if TYPE_CHECKING:
    import yaml

SUFFIXES = (".yaml", ".yml", ".json")  # what of a directory is read, as by kubectl


def load(files: Sequence[str]) -> list[Object]:
    """Read every document of the files, of those in a directory too ("-": stdin). Raises FailedPrecondition naming file and place."""
    found: list[Object] = []
    if not files:
        return found
    from minipod.cli.lean_yaml import StrictLoader, plain, yaml  # 6 ms, only for manifests

    for name in (inner for given in files for inner in _files(given)):
        text = sys.stdin.read() if name == "-" else _read(name)
        try:
            documents = [plain(d) for d in yaml.load_all(text, StrictLoader)]
        except yaml.MarkedYAMLError as e:
            raise _not_yaml(name, text, e) from e
        except (yaml.YAMLError, ValueError, RecursionError) as e:
            words = "nested too deeply" if isinstance(e, RecursionError) else e
            raise FailedPrecondition(f"{name}: not valid YAML: {words}") from e
        for number, document in enumerate(documents, 1):
            if document is not None:
                found += _objects(document, f"{name}: document {number}")
    return found


def _objects(document: Any, place: str) -> Iterator[Object]:
    """Yield the object of one document, or those of a List, PodList..."""
    if isinstance(document, dict) and str(document.get("kind")).endswith("List"):
        items = document.get("items") or []
        if not isinstance(items, list):
            raise FailedPrecondition(f"{place}: items is no list")
        for number, item in enumerate(items):
            yield _checked(item, f"{place}: items[{number}]")
    else:
        yield _checked(document, place)


def _checked(document: Any, place: str) -> Object:
    """Return *document* if it has what every object has; the rest is the server's to judge."""
    hint = "each needs apiVersion, kind and metadata"
    if not isinstance(document, dict):
        raise FailedPrecondition(f"{place} is no Kubernetes object", hint=hint)
    for field, kind, named in (
        ("apiVersion", str, "text"), ("kind", str, "text"), ("metadata", dict, "an object"),
    ):  # fmt: skip
        if not document.get(field):
            raise FailedPrecondition(f"{place} is no Kubernetes object: no {field}", hint=hint)
        if not isinstance(document[field], kind):
            raise FailedPrecondition(f"{place}: {field} is not {named}", hint=hint)
    return document


def _files(name: str) -> list[str]:
    """Return *name*, or what is to be read of that directory."""
    if not os.path.isdir(name):
        return [name]
    found = sorted(f"{name.rstrip('/')}/{n}" for n in os.listdir(name) if n.endswith(SUFFIXES))
    if not found:
        raise FailedPrecondition(f"{name}: no file that ends in {', '.join(SUFFIXES)}")
    return found


def _read(name: str) -> str:
    try:
        with open(name, encoding="utf-8") as f:
            return f.read()
    except UnicodeDecodeError as e:
        raise FailedPrecondition(f"{name}: not UTF-8 at byte {e.start}") from e
    except OSError as e:
        there = "://" in name
        hint = f"minipod reads files: curl -fsSL {name} | minipod apply -f -" if there else ""
        raise FailedPrecondition(f"{name}: {(e.strerror or '').lower()}", hint=hint) from e


def _not_yaml(name: str, text: str, e: yaml.MarkedYAMLError) -> FailedPrecondition:
    """Say where, and what is wrong; of a tab, which looks like the spaces that it is not, that it is one."""
    mark = e.problem_mark or e.context_mark
    line, column = (0, 0) if mark is None else (mark.line, mark.column)
    lines = text.splitlines()
    tab = line < len(lines) and lines[line][column : column + 1] == "\t"
    words = ", ".join(part for part in (e.context, e.problem) if part)
    return FailedPrecondition(
        f"{name}: line {line + 1}, column {column + 1}: not valid YAML: {words}",
        hint="there is a tab: YAML indents with spaces" if tab else "",
    )
