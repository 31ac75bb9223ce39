"""fsGroup on a volume that somebody writes to meanwhile. Excluded: groups themselves, which only root may give (tests/root)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from minipod.kubelet.volumes import ownership

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def test_a_tree_becomes_the_groups(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(0o700)
    (tmp_path / "d" / "f").touch(0o600)
    (tmp_path / "link").symlink_to("/nowhere")
    ownership.give(str(tmp_path), ownership.Group(gid=os.getgid()))
    assert mode(tmp_path / "d") == 0o2770
    assert mode(tmp_path / "d" / "f") == 0o660
    assert mode(tmp_path) & 0o2070 == 0o2070


def test_a_file_that_becomes_a_link_under_our_hands_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.touch(0o600)
    volume.mkdir()
    (volume / "f").touch(0o600)
    real = os.fstat

    def swap(fd: int) -> os.stat_result:
        info = real(fd)
        if (volume / "f").is_file():
            (volume / "f").unlink()
            (volume / "f").symlink_to(outside)
        return info

    monkeypatch.setattr(ownership.os, "fstat", swap)
    ownership.give(str(volume), ownership.Group(gid=os.getgid()))
    assert (volume / "f").is_symlink()
    assert mode(outside) == 0o600
