"""Modules that were imported without `inspect` find it when they need it: each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

CLASS = """
from dataclasses import dataclass
@dataclass(slots=True)
class C:
    x: int
    y: int = 2
print(C(1), C.__match_args__, C(1) == C(1, 2))
"""
WITHOUT = "from minipod.late_inspect import import_dataclasses; import_dataclasses()"
ASKED = """
import sys
from minipod.late_inspect import later
with later():
    import asyncio
print('inspect' in sys.modules)
class Call:
    async def __call__(self): pass
print(asyncio.iscoroutinefunction(Call()), 'inspect' in sys.modules)
import inspect
print(inspect is not asyncio.coroutines.inspect, callable(inspect.signature))
"""
LOADED = """
import inspect, sys
from minipod.late_inspect import later
with later():
    import inspect as found
print(found is inspect, sys.modules['inspect'] is inspect)
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_dataclass_is_what_it_is_with_inspect() -> None:
    """Excluded: the text of one that has no docstring."""
    late = run(f"{WITHOUT}\n{CLASS}\nimport sys; print('inspect' in sys.modules)")
    assert late == run(CLASS) + "\nFalse"


def test_asyncio_looks_into_the_real_one_when_it_has_to() -> None:
    assert run(ASKED) == "False\nFalse True\nTrue True"


def test_one_that_is_loaded_already_is_taken() -> None:
    assert run(LOADED) == "True True"
