"""What `minipod cp` takes from a container's archive, which may be hostile. Excluded: the streams (tests/root)."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from minipod.cli.cp import extract
from minipod.errors import FailedPrecondition


def archive(*members: tuple[str, bytes]) -> tarfile.TarFile:
    """An archive of these (name, type) with a byte in each file."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, kind in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.linkname = kind, 0o755, "/etc/passwd"
            info.size = 1 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"x"))
    made.seek(0)
    return tarfile.open(fileobj=made, mode="r|")


FILE, DIRECTORY, LINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE


def test_files_and_directories_arrive_and_links_do_not(tmp_path: Path, capsys) -> None:
    target = tmp_path / "d"
    extract(archive(("d", DIRECTORY), ("d/f", FILE), ("d/\x1b[2Jlink", LINK)), "d", str(target))
    assert [p.name for p in target.iterdir()] == ["f"]
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["d/../../out", "/out", "../d/out"])
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    target = tmp_path / "in" / "d"
    target.mkdir(parents=True)
    with pytest.raises(FailedPrecondition, match="outside of d"):
        extract(archive((name, FILE)), "d", str(target))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("member", [("d/here/x", FILE), ("d/here/x/y", FILE), ("d/here/x", DIRECTORY), ("d/here", DIRECTORY)])  # fmt: skip
def test_nothing_is_made_through_a_link_that_was_there(tmp_path: Path, member: tuple[str, bytes]) -> None:  # fmt: skip
    outside, target = tmp_path / "outside", tmp_path / "d"
    outside.mkdir()
    target.mkdir()
    (target / "here").symlink_to(outside)
    with pytest.raises(FailedPrecondition, match="symbolic link"):
        extract(archive(member), "d", str(target))
    assert list(outside.iterdir()) == []
