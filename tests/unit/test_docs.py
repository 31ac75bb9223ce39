"""What the documents say of the code: files, modules and names that they mention are there. Excluded: what they say about them."""

from __future__ import annotations

import ast
import glob
import os
import re
from functools import cache

import pytest

from minipod.testing.docs import HERE

DOCUMENTS = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    *sorted(glob.glob("docs/*.md", root_dir=HERE)),
]
ROOTS = ("", "minipod/", "docs/")  # what a path in a document begins at
MAPPED = sorted(
    os.path.dirname(path)
    for path in glob.glob("**/__init__.py", root_dir=f"{HERE}/minipod", recursive=True)
    if os.path.dirname(path) not in ("", "cli", "apiserver/kinds")
)
PACKAGES = {name for name in os.listdir(f"{HERE}/minipod") if "." not in name}


def text(document: str) -> str:
    with open(f"{HERE}/{document}", encoding="utf-8") as f:
        return f.read()


def found(path: str) -> list[str]:
    """Return the files that *path* means: *, and {a,b} for several, each of which must be there."""
    braces = re.fullmatch(r"(.*)\{(.*)\}(.*)", path)
    every = [f"{braces[1]}{one}{braces[3]}" for one in braces[2].split(",")] if braces else [path]
    matches = [[m for root in ROOTS for m in glob.glob(f"{HERE}/{root}{one}")] for one in every]
    return [m for match in matches for m in match] if all(matches) else []


@cache
def names(file: str) -> set[str]:
    """Return what a module defines: classes, functions, methods, variables, fields."""
    with open(file, encoding="utf-8") as f:
        tree = ast.parse(f.read())
    defined = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            defined.add(node.id if isinstance(node, ast.Name) else node.attr)
    return defined


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_a_document_names_are_there(document: str) -> None:
    said = re.findall(r"`([\w.*{},-]+(?:/[\w.*{},-]+)+\.(?:py|md|yaml|gz))`", text(document))
    said += re.findall(r"\]\(([^):#]+)\)", text(document)) if document.startswith("docs") else []
    for path in said:
        assert found(path) or os.path.exists(f"{HERE}/docs/{path}"), path


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "docs/labs.md"])
def test_names_that_a_document_places_in_a_file_are_there(document: str) -> None:
    """`file.py`: `name`, `other`; and: `name`, `other` in `file.py`."""
    words = r"((?:`\w+`(?:, | and )?)+)"
    pairs = re.findall(rf"`([\w/]+\.py)`: {words}", text(document))
    pairs += [
        (path, said) for said, path in re.findall(rf"{words}\s+in\s+`([\w/]+\.py)`", text(document))
    ]
    assert len(pairs) > 3
    for path, said in pairs:
        (file,) = found(path)
        assert set(re.findall(r"\w+", said.replace(" and ", " "))) <= names(file), (path, said)


def test_modules_that_the_map_names_are_there() -> None:
    """`package.module`, `package.module.name`, each below minipod/."""
    for said in re.findall(r"`([a-z_]+(?:\.\w+)+)(?:\(\))?`", text("ARCHITECTURE.md")):
        parts = said.split(".")
        if parts[0] not in PACKAGES:
            continue
        depth = len(parts)
        while depth and not os.path.exists(f"{HERE}/minipod/{'/'.join(parts[:depth])}.py"):
            depth -= 1
        if not depth:
            assert os.path.isdir(f"{HERE}/minipod/{'/'.join(parts)}"), said
            continue
        assert set(parts[depth:]) <= names(f"{HERE}/minipod/{'/'.join(parts[:depth])}.py"), said


@pytest.mark.parametrize("package", MAPPED)
def test_the_first_lines_of_a_package_name_its_modules(package: str) -> None:
    """They are its map. Excluded: packages of one file per verb, or per few kinds."""
    here = f"{HERE}/minipod/{package}"
    with open(f"{here}/__init__.py", encoding="utf-8") as f:
        said = ast.get_docstring(ast.parse(f.read())) or ""
    modules = {name.removesuffix(".py") for name in os.listdir(here) if name.endswith(".py")}
    modules |= {name for name in os.listdir(here) if os.path.exists(f"{here}/{name}/__init__.py")}
    modules -= {"__init__", "__main__"}
    missing = {m for m in modules if not re.search(rf"\b{m}\b", said)}
    assert not missing, f"name them in minipod/{package}/__init__.py"
