"""Empty directories and files that wait: who needs one gets what it would make, whether one waits or not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minipod.aio.spares import Spares


@pytest.fixture
def spares(tmp_path: Path) -> Spares:
    made = Spares(str(tmp_path / "spare"))
    made.keep(directories=2, files=1)
    return made


def waiting(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "spare"))


async def test_those_that_wait_are_given_and_made_again(spares: Spares, tmp_path: Path) -> None:
    assert not await spares.more()
    before = waiting(tmp_path)
    assert len(before) == 3
    inodes = {os.stat(tmp_path / "spare" / name).st_ino for name in before}
    for name in ("a", "b"):
        spares.make_directory(str(tmp_path / name), 0o750)
    spares.make_file(str(tmp_path / "a" / "f"), 0o666)
    made = [tmp_path / "a", tmp_path / "b", tmp_path / "a" / "f"]
    assert {path.stat().st_ino for path in made} == inodes
    assert [path.stat().st_mode & 0o777 for path in made] == [0o750, 0o750, 0o666]
    assert made[2].read_bytes() == b""
    assert not waiting(tmp_path)
    await spares.more()
    assert len(waiting(tmp_path)) == 3


async def test_without_any_they_are_made(tmp_path: Path) -> None:
    spares = Spares(str(tmp_path / "spare"))
    spares.make_directory(str(tmp_path / "x" / "y"), 0o750)
    spares.make_file(str(tmp_path / "x" / "y" / "f"), 0o666)
    assert (tmp_path / "x" / "y").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "x" / "y" / "f").stat().st_mode & 0o777 == 0o666


async def test_a_directory_above_that_is_missing_is_made(spares: Spares, tmp_path: Path) -> None:
    await spares.more()
    spares.make_directory(str(tmp_path / "x" / "y"), 0o755)
    assert (tmp_path / "x" / "y").is_dir()
    assert len(waiting(tmp_path)) == 2  # the spare one is gone, not lost


async def test_a_directory_that_is_there_keeps_what_it_has(spares: Spares, tmp_path: Path) -> None:
    await spares.more()
    (tmp_path / "x").mkdir(mode=0o700)
    (tmp_path / "x" / "f").touch()
    spares.make_directory(str(tmp_path / "x"), 0o755)
    assert os.listdir(tmp_path / "x") == ["f"]
    assert len(waiting(tmp_path)) == 3


async def test_a_path_on_another_file_system_is_made_there(spares: Spares, tmp_path: Path) -> None:
    other = Path(f"/dev/shm/{tmp_path.parent.name}-{os.getpid()}")
    await spares.more()
    try:
        spares.make_directory(str(other), 0o755)
        spares.make_file(str(other / "f"), 0o644)
        assert os.listdir(other) == ["f"]
    finally:
        (other / "f").unlink()
        other.rmdir()


async def test_what_waited_at_an_end_is_taken_over(spares: Spares, tmp_path: Path) -> None:
    await spares.more()
    before = waiting(tmp_path)
    later = Spares(str(tmp_path / "spare"))
    later.keep(directories=2, files=1)
    assert not await later.more()
    assert waiting(tmp_path) == before
    later.make_directory(str(tmp_path / "d"), 0o755)
    assert len(waiting(tmp_path)) == 2


async def test_a_spare_one_that_somebody_removed_is_made_anew(
    spares: Spares, tmp_path: Path
) -> None:
    await spares.more()
    for name in waiting(tmp_path):
        path = tmp_path / "spare" / name
        path.rmdir() if path.is_dir() else path.unlink()
    for name in ("a", "b", "c"):
        spares.make_directory(str(tmp_path / name), 0o750)
        assert (tmp_path / name).is_dir()
    spares.make_file(str(tmp_path / "f"), 0o600)
    assert (tmp_path / "f").is_file()
