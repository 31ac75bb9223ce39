"""yaml whose patterns are compiled when they are needed says what a plain one does, in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

TEXT = """
{a: 1, b: 0x1f, c: 0b11, d: 1.5, e: 1_000, f: 2026-01-02, g: 2026-01-02T03:04:05.6Z, h: ~, i: yes, j: Off, k: 1e3, l: .inf, n: "1",
o: 1:30, p: -5, q: é, r: 017, s: 10.88.0.0/16, t: 500m, v: "\\u263a", w: [*x], x: !!binary aGk=}
"""
CODE = """
import re, sys
usual = re.compile
STATEMENT
print(re.compile is usual)
for loader in (yaml.SafeLoader, yaml.CSafeLoader):
    print(yaml.load(TEXT.replace("[*x]", "[x]"), loader))
    for wrong in ("a: \\x07", "a: [", "\\ta: b", "a: *x", "a: =", "<<: 1"):
        try:
            yaml.load(wrong, loader)
        except yaml.YAMLError as e:
            print(type(e).__name__, e)
print(yaml.safe_dump({"a": ["1", 1, None, "yes", "2026-01-02", "é"]}))
"""


def said(statement: str) -> str:
    code = f"TEXT = {TEXT!r}{CODE.replace('STATEMENT', statement)}"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_it_reads_and_writes_as_a_plain_one() -> None:
    found = said("from minipod.cli.lean_yaml import yaml")
    assert found == said("import yaml")
    assert found.startswith("True\n{'a': 1, ")
    assert "ReaderError" in found
