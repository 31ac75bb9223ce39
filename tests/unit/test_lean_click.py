"""click that was imported without modules which it does not need here does what it does with them: each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from minipod.cli import VERBS

PLAIN = "import click, click.types, click.core; "
LEAN = "from minipod.cli.lean_click import click; "
SAY = """
import sys
from minipod import cli
for words in {words}:
    sys.argv = ["minipod", "--instance", "nosuch", *words]
    print(words, cli.main(), flush=True)
"""
WRONG = [["exce"], ["exec"], ["get"], ["logs", "x", "--tail=y"], ["run", "x", "--restart=no"], ["get", "--new"]]  # fmt: skip


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([["--help"], *([verb, "--help"] for verb in VERBS)], id="help"),
        pytest.param(WRONG, id="wrong"),
        pytest.param([["completion", "bash"], ["completion", "zsh"]], id="completion"),
    ],
)
def test_its_words_are_those_of_a_plain_click(words: list[list[str]]) -> None:
    """Excluded: translations, which click has none of."""
    code = SAY.format(words=words)
    said = run(code)
    assert said == run(PLAIN + code)
    assert all(f"{one} " in said for one in words)


@pytest.mark.parametrize(
    "expression",
    [
        "click.UUID.convert('12345678123456781234567812345678', None, None).hex",
        "click.DateTime().convert('2026-01-02', None, None).year",
        "__import__('uuid').UUID is click.types.uuid.UUID",
        "__import__('datetime').datetime is click.types.datetime",
        "__import__('threading').local is click.globals.local",
        "__import__('gettext').gettext('x')",
        "__import__('inspect').isfunction(run)",
        "click.core.inspect.isfunction(run)",
        "click.core.inspect.cleandoc('  a\\n  b ')",
    ],
)
def test_who_looks_for_more_finds_the_real_modules(expression: str) -> None:
    code = f"def run(): pass\nprint({expression})"
    assert run(f"{LEAN}\n{code}") == run(f"{PLAIN}\n{code}")
