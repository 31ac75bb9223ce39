"""Small files read and written whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from minipod.linux import small_files


@pytest.mark.parametrize("size", [0, 1, small_files.READ_MAX - 1, small_files.READ_MAX, 200_001])
def test_what_is_written_is_read(tmp_path: Path, size: int) -> None:
    path = str(tmp_path / "f")
    content = os.urandom(size)
    small_files.create(path, content, 0o640)
    assert small_files.read(path) == content
    assert os.stat(path).st_mode & 0o777 == 0o640
    small_files.append(path, b"more")
    assert small_files.read(path) == content + b"more"
    small_files.replace(path, b"other")
    assert small_files.read(path) == b"other"
    assert os.listdir(tmp_path) == ["f"]


def test_a_file_that_is_there_is_not_created(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    with pytest.raises(FileExistsError):
        small_files.create(str(tmp_path / "f"), b"new")
    assert (tmp_path / "f").read_text() == "old"


def test_the_end_of_a_disk_is_told_and_leaves_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space left on device"):
        small_files.append("/dev/full", b"x")
    with pytest.raises(FileNotFoundError):
        small_files.read(str(tmp_path / "missing"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_is_whole_though_the_kernel_takes_it_in_parts(tmp_path, monkeypatch) -> None:
    """write(2) of a tmpfs that is nearly full is a short one; the next call says ENOSPC."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, content: write(fd, bytes(content)[:7]))
    small_files.replace(f"{tmp_path}/r", b"x" * 100)
    assert (tmp_path / "r").read_bytes() == b"x" * 100


def test_a_file_that_can_not_be_replaced_stays_as_it_was(tmp_path, monkeypatch) -> None:
    """No part of the new one is left beside it."""
    (tmp_path / "r").write_bytes(b"old")

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match="No space left"):
        small_files.replace(f"{tmp_path}/r", b"new")
    assert os.listdir(tmp_path) == ["r"]
    assert (tmp_path / "r").read_bytes() == b"old"
