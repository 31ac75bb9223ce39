"""A Dockerfile cut into its instructions, as text: comments left out, continued lines joined, here-documents taken along.

    RUN <<EOF              the body is the script
    RUN cat <<EOF > /x     the shell reads the body
    COPY <<EOF /x          the body is a file; $name is replaced unless the word has quotes

Pure. Source: docs.docker.com/reference/dockerfile, "Here-Documents".
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from minipod.errors import InvalidSpec

WITH_DOCUMENTS = ("RUN", "COPY", "ADD")
_DOCUMENT = re.compile(r"[0-9]*<<(?P<dash>-?)(?P<quote>[\"']?)(?P<word>\w[\w.-]*)(?P=quote)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One here-document."""

    word: str  # what ends it, and what COPY calls the file
    text: str  # as it is meant: <<- takes tabs away
    raw: str  # as it is written, with the line that ends it
    expands: bool  # no quotes around the word


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One instruction; *number* is that of its first line, from 1."""

    number: int
    text: str
    documents: tuple[Document, ...] = ()


def split(text: str) -> Iterator[Line]:
    """Yield the instructions. Raises InvalidSpec, whose path is the line."""
    start, parts = 0, []
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        stripped = line.strip()
        if stripped.startswith("#"):
            _check_directive(stripped, number)
            continue
        if not stripped:
            continue
        start = start or number
        if stripped.endswith("\\"):
            parts.append(stripped[:-1])
            continue
        whole = "".join([*parts, stripped])
        yield Line(number=start, text=whole, documents=tuple(_documents(whole, start, lines)))
        start, parts = 0, []
    if parts:
        yield Line(number=start, text="".join(parts))


def _check_directive(comment: str, number: int) -> None:
    directive = re.fullmatch(r"#\s*escape\s*=\s*(\S+)", comment)
    if directive and directive[1] != "\\":
        raise InvalidSpec(f"escape={directive[1]} is not supported", path=f"line {number}")


def _documents(text: str, number: int, lines: Iterator[tuple[int, str]]) -> Iterator[Document]:
    """Take the here-documents that *text* begins from the lines behind it."""
    if text.split(None, 1)[0].upper() not in WITH_DOCUMENTS or "<<" not in text:
        return
    try:
        words = shlex.split(text, posix=False)  # quotes stay: "<<x" in quotes is none
    except ValueError:
        return
    for found in filter(None, map(_DOCUMENT.fullmatch, words)):
        body: list[str] = []
        tabs = "\t" if found["dash"] else ""
        for _, line in lines:
            body.append(line)
            if line.lstrip(tabs) == found["word"]:  # lstrip("") takes nothing away
                break
        else:
            raise InvalidSpec(f"here-document {found['word']} has no end", path=f"line {number}")
        yield Document(
            word=found["word"],
            text="".join(f"{line.lstrip(tabs)}\n" for line in body[:-1]),
            raw="\n".join(body),
            expands=not found["quote"],
        )


def is_document(word: str) -> bool:
    """Tell whether a word of an instruction stands for a here-document."""
    return _DOCUMENT.fullmatch(word) is not None
