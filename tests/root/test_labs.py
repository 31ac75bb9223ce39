"""The exercises of docs/labs.md: one shell runs their commands, each prints what the text says. `...` stands for anything."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from tests.node import PATIENCE

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
MARK = "-- end of a command --"


@dataclass
class Step:
    command: str
    prints: list[str] = field(default_factory=list)


def steps(text: str) -> list[Step]:
    """Return the commands of all indented blocks, with what they are said to print."""
    found: list[Step] = []
    for line in text.splitlines():
        if line.startswith("    $ "):
            found.append(Step(line.removeprefix("    $ ")))
        elif line.startswith("    ") and found:
            found[-1].prints.append(line[4:])
    return found


@pytest.mark.timeout(300)  # fifty commands, each a python
def test_the_exercises_print_what_they_say(node) -> None:
    with open(f"{ROOT}/docs/labs.md", encoding="utf-8") as f:
        listed = steps(f.read())
    assert len(listed) > 30
    environment = {
        **os.environ,
        "MINIPOD_INSTANCE": node.instance.name,
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
    }
    script = "".join(f"{{ {s.command}\n}} 2>&1\necho '{MARK}'\n" for s in listed)
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=ROOT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=240 * PATIENCE,
    )  # fmt: skip
    printed = done.stdout.split(f"{MARK}\n")
    assert not done.stderr
    checker = doctest.OutputChecker()
    for step, got in zip(listed, printed, strict=False):
        want = "".join(f"{line}\n" for line in step.prints)
        same = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        assert checker.check_output(want, got, same), f"$ {step.command}\n{got}\nthe text: {want}"
    assert len(printed) == len(listed) + 1
    assert re.fullmatch(r"\s*", printed[-1])
