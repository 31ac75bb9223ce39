"""What is put into the trash is out of sight at once and gone soon, whatever it is; what another process left goes, too."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from pathlib import Path

import pytest

from minipod.aio.trash import Trash
from tests.node import eventually


def tree(path) -> str:
    (path / "a" / "b").mkdir(parents=True)
    (path / "a" / "file").write_text("x")
    return str(path / "a")


def empty(directory) -> bool:
    return not os.listdir(directory)


def test_what_is_put_there_is_out_of_sight_at_once_and_gone_soon(tmp_path) -> None:
    trash = Trash(f"{tmp_path}/trash")
    for n in range(20):  # while it works, and when it has ended
        path = tree(tmp_path / str(n))
        trash.put(path)
        assert not os.path.exists(path)
    eventually(lambda: empty(f"{tmp_path}/trash"))


async def test_what_an_event_loop_puts_there_goes_by_a_thread_that_begins_later(tmp_path) -> None:
    trash = Trash(f"{tmp_path}/trash")
    for name in "first", "second":
        (tmp_path / name).mkdir()
        path = tree(tmp_path / name)
        assert trash.move(path)
        assert not os.path.exists(path)
    assert len(os.listdir(f"{tmp_path}/trash")) == 2
    await asyncio.to_thread(eventually, lambda: empty(f"{tmp_path}/trash"))


def test_many_threads_may_put_things_there(tmp_path) -> None:
    trash = Trash(f"{tmp_path}/trash")
    paths = [tree(tmp_path / str(n)) for n in range(40)]
    threads = [threading.Thread(target=trash.put, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(os.path.exists(path) for path in paths)
    eventually(lambda: empty(f"{tmp_path}/trash"))


def test_a_directory_that_another_thread_makes_meanwhile_is_as_good(tmp_path, monkeypatch) -> None:
    rename = os.rename

    def late(path: str, place: str) -> None:
        monkeypatch.setattr(os, "rename", rename)
        try:
            rename(path, place)
        finally:
            os.mkdir(tmp_path / "trash")

    path = tree(tmp_path / "one")
    monkeypatch.setattr(os, "rename", late)
    Trash(f"{tmp_path}/trash").put(path)
    assert not os.path.exists(path)


def test_what_is_not_there_is_fine_and_a_sweep_takes_what_another_one_left(tmp_path) -> None:
    Trash(f"{tmp_path}/none").sweep()
    tree(tmp_path / "trash" / "old")
    trash = Trash(f"{tmp_path}/trash")
    trash.put(f"{tmp_path}/nothing")
    assert os.listdir(f"{tmp_path}/trash") == ["old"]
    trash.sweep()
    eventually(lambda: empty(f"{tmp_path}/trash"))


def test_what_is_on_another_file_system_is_removed_at_once(tmp_path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("one file system only")
        os.makedirs(f"{other}/a/b")
        Trash(f"{tmp_path}/trash").put(f"{other}/a")
        assert os.listdir(other) == []


def test_each_file_system_may_have_a_directory(tmp_path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("one file system only")
        places = (f"{tmp_path}/trash", f"{other}/trash")
        trash = Trash(*places)
        for path in (tree(tmp_path), tree(Path(other))):
            assert trash.move(path)
            assert not os.path.exists(path)
        for place in places:
            eventually(lambda place=place: empty(place))


def test_what_has_no_place_there_is_removed_at_once_by_who_can_wait(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    trash = Trash(f"{tmp_path}/file/trash")
    path = tree(tmp_path)
    assert not trash.move(path)
    assert os.path.exists(path)
    trash.put(path)
    assert not os.path.exists(path)


def test_of_what_can_not_be_removed_the_log_tells_once(tmp_path, caplog) -> None:
    trash = Trash(str(tmp_path / "trash"))
    (tmp_path / "no directory").write_text("")
    trash.put(str(tmp_path / "no directory"))
    eventually(lambda: "stays on the disk" in caplog.text)
    (tmp_path / "next").mkdir()
    trash.put(str(tmp_path / "next"))
    eventually(lambda: len(list((tmp_path / "trash").iterdir())) == 1)
    eventually(lambda: not trash._works)
    assert caplog.text.count("stays on the disk") == 1
