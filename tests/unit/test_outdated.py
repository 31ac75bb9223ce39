"""Code that has changed since a node started."""

import os

import pytest

from minipod.daemon import outdated
from minipod.spec.instance import Instance


@pytest.fixture
def node(tmp_path) -> Instance:
    (tmp_path / "x").mkdir()
    return Instance(name="x", run_root=str(tmp_path))


def written(path, seconds: int) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    os.utime(path, (seconds, seconds))


@pytest.mark.parametrize(
    ("name", "seconds", "newer"),
    [("a.py", 99, False), ("a.py", 100, False), ("a.py", 101, True), ("a.pyc", 101, False)],
)
def test_a_file_of_code_that_was_written_after_the_start_is_named(
    node, tmp_path, name: str, seconds: int, newer: bool
) -> None:
    written(tmp_path / "x" / "supervisor.json", 100)
    written(tmp_path / "code" / "b.py", 1)
    written(tmp_path / "code" / name, seconds)
    found = outdated.changed(node, f"{tmp_path}/code")
    assert found == (f"{tmp_path}/code/{name}" if newer else "")


def test_a_node_that_does_not_run_is_not_out_of_date(node) -> None:
    assert outdated.told(node) == ""


def test_what_is_told_names_the_remedy(node, tmp_path) -> None:
    written(tmp_path / "x" / "supervisor.json", 1)
    told = outdated.told(node)
    assert "minipod --instance x down --keep-pods" in told
    assert outdated.CODE in told
