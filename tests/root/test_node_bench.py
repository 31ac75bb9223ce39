"""Each row of scripts/bench still runs and prints its figures. No figure is judged: a slow machine fails nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(240)  # all rows are measured before the first test

PEERS = "runc,umoci,skopeo,kubectl"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# A row that fails, one whose peer fails, and the harness as it is otherwise.
BROKEN = """
import contextlib
from benchmarks import __main__ as harness
from benchmarks.row import Figure, Row

@contextlib.contextmanager
def works(bench):
    yield lambda: {"figure": 2.0}

@contextlib.contextmanager
def breaks(bench):
    yield lambda: {}["nothing"]

def row(**sides):
    return Row(title="t", figures=(Figure("figure"),), sides=sides, runs=2)

harness.all_rows = lambda: {"bad": row(minipod=breaks), "good": row(minipod=works, other=breaks)}
harness.main()
"""


def started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT}/scripts"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> tuple[str, str]:
    """What all rows print, and the report they write; beside what the tests need anyway."""
    directory = str(tmp_path_factory.mktemp("bench"))
    process = started(
        "-m", "benchmarks", "--quick", "--beside", PEERS, "--output", directory
    )  # fmt: skip
    printed, told = process.communicate()
    assert process.returncode == 0, told
    return printed, directory


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


@pytest.mark.parametrize("row", rows())
def test_every_figure_of_a_row_was_measured(quick, row: str) -> None:
    """But for a kubectl that is not there."""
    with open(f"{quick[1]}/results.json", encoding="utf-8") as f:
        measured = json.load(f)[row]
    runs = measured["sides"]["minipod"]
    assert len(runs) == 2
    wanted = {figure["name"] for figure in measured["figures"]} - {"by kubectl"}
    assert all(wanted <= set(run) for run in runs)
    assert not {why for why in measured["missing"].values() if "failed" in why}


def test_the_table_has_runcs_ratio(quick) -> None:
    with open(f"{quick[1]}/results.md", encoding="utf-8") as f:
        lines = [line for line in f if line.startswith("| create, start, exit, delete")]
    assert ", x " in lines[0].split("|")[4]


def test_a_row_that_fails_is_told_and_the_others_are_measured(tmp_path) -> None:
    process = started("-c", BROKEN, "--output", str(tmp_path))
    printed, told = process.communicate()
    assert process.returncode == 1
    assert "bad: failed: KeyError: 'nothing'" in printed
    assert "good: t, 2 runs" in printed
    assert "without other: it failed: KeyError: 'nothing'" in printed
    assert told.endswith("bench: failed: bad\n")


def test_ctrl_c_in_a_row_leaves_nothing_behind(tmp_path) -> None:
    """The leak fixture sees processes, mounts, cgroups and links; the files are looked for here."""
    process = started(
        "-m", "benchmarks", "--beside", "runc", "--runs", "2", "--output", str(tmp_path), "get", "container",
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("get: ")  # the node is there, the next row begins
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    left = [f for f in os.listdir("/var/tmp") if f.startswith(f"minipod-bench-{process.pid}-")]
    for name in (f"{kind}{process.pid:x}" for kind in "bcd"):  # the node, the row's own two
        left += [d for d in (f"/run/{name}", f"/var/lib/{name}") if os.path.exists(d)]
    assert left == []
