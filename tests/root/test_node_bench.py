"""Each row of scripts/bench still runs and prints its figures. No figure is judged: a slow machine fails nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> tuple[str, str]:
    """What all rows print, and the report they write; beside runc, which the tests need anyway."""
    directory = str(tmp_path_factory.mktemp("bench"))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--beside", "runc", "--output", directory],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}/scripts"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, directory


def rows() -> list[str]:
    names = os.listdir(f"{ROOT}/scripts/benchmarks/rows")
    return sorted(n.removesuffix(".py") for n in names if n[0] != "_" and n.endswith(".py"))


@pytest.mark.parametrize("row", rows())
def test_a_row_prints_figures_of_minipod_and_draws_them(quick, row: str) -> None:
    printed, directory = quick
    section = printed[printed.index(f"{row}: ") :].splitlines()
    assert section[2].split()[0] == "minipod"
    assert float(section[2].split()[1]) > 0
    with open(f"{directory}/{row}.svg", encoding="utf-8") as f:
        assert "<circle" in f.read()


def test_the_table_has_runcs_ratio(quick) -> None:
    with open(f"{quick[1]}/results.md", encoding="utf-8") as f:
        lines = [line for line in f if line.startswith("| create, start, exit, delete")]
    assert ", x " in lines[0].split("|")[4]
