"""How the command ends: with all that it had to say, and with the right code, although Python is not taken apart."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MINIPOD = [sys.executable, "-m", "minipod"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["version"], 0, "minipod "),
        (["--help"], 0, "Print the version."),
        (["exec", "--help"], 0, "Show this message and exit."),
        (["exce"], 2, "Did you mean 'exec'?"),
        (["exec", "x"], 2, "name the command"),
        (["--instance", "nosuch", "get", "pods"], 1, "node nosuch is not running"),
        (["--config", "/nonexistent", "get", "pods"], 1, "no settings file /nonexistent"),
    ],
)
def test_it_ends_with_its_code_and_its_words(words: list[str], code: int, said: str) -> None:
    done = subprocess.run(
        [*MINIPOD, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == code
    assert said in done.stdout


def test_a_reader_that_left_is_no_fault_of_ours() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*MINIPOD, "--help"], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_closed_output_is_none() -> None:
    line = " ".join([*MINIPOD, "version", ">&-"])
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_caller_s_environment_brings_no_code(tmp_path) -> None:
    """Excluded: a launcher that pip made, where scripts/setup can't make ours."""
    (tmp_path / "click.py").write_text("raise SystemExit(99)")
    launcher = f"{os.path.dirname(sys.executable)}/minipod"
    with open(launcher, encoding="utf-8") as f:
        if not f.readline().endswith("python -IS\n"):
            pytest.skip("this is pip's launcher")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    assert subprocess.run([launcher, "version"], env=environment, check=False).returncode == 0
