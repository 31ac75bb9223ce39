"""Root file systems that wait: which are prepared, who gets one, and what becomes of those that nobody takes. Real overlays, no node."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from minipod.aio.trash import Trash
from minipod.errors import MinipodError
from minipod.runtime.prepared_roots import PreparedRoots
from tests.node import eventually


@pytest.fixture
def layers(tmp_path: Path) -> tuple[str, ...]:
    """Two layers, each with a file."""
    made = []
    for name in ("top", "base"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(name)
        made.append(str(tmp_path / name))
    return tuple(made)


@pytest.fixture
def roots(tmp_path: Path) -> PreparedRoots:
    found = PreparedRoots(str(tmp_path / "prepared"), Trash(str(tmp_path / "trash")))
    found.keep(2)
    return found


def waiting(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "prepared") if (tmp_path / "prepared").exists() else []


def mounted(tmp_path: Path) -> bool:
    return str(tmp_path) in Path("/proc/self/mountinfo").read_text("utf-8")


def test_one_waits_for_each_of_the_last_containers(roots, layers, tmp_path) -> None:
    async def scenario() -> None:
        assert not await roots.more()  # nobody has had any yet
        assert roots.take(layers, str(tmp_path / "c0")) == -1
        assert await roots.more()
        assert not await roots.more()
        assert not mounted(tmp_path)
        root = roots.take(layers, str(tmp_path / "c1"))
        try:
            inside = f"/proc/self/fd/{root}"
            assert sorted(os.listdir(inside)) == ["base", "top"]
            Path(inside, "new").write_text("mine")
        finally:
            os.close(root)
        assert (tmp_path / "c1" / "upper" / "new").read_text() == "mine"
        assert roots.take(layers, str(tmp_path / "c2")) == -1
        assert [await roots.more() for _ in range(3)] == [True, True, False]
        assert len(waiting(tmp_path)) == 2
        await roots.close()

    asyncio.run(scenario())
    assert not waiting(tmp_path)


def test_a_root_that_the_last_containers_were_not_like_is_undone(roots, layers, tmp_path) -> None:
    other = layers[1:]

    async def scenario() -> None:
        roots.take(layers, str(tmp_path / "c"))
        assert await roots.more()
        (first,) = waiting(tmp_path)
        for n in range(2):
            assert roots.take(other, str(tmp_path / f"o{n}")) == -1
        while await roots.more():
            pass
        assert first not in waiting(tmp_path)
        assert len(waiting(tmp_path)) == 2
        assert roots.take(layers, str(tmp_path / "c")) == -1
        await roots.close()
        # The loop begins with that, some time later.
        await asyncio.to_thread(eventually, lambda: not os.listdir(tmp_path / "trash"))

    asyncio.run(scenario())


def test_a_layer_that_was_removed_and_is_there_again_is_another_one(
    roots, layers, tmp_path
) -> None:
    async def scenario() -> None:
        roots.take(layers, str(tmp_path / "c"))
        assert await roots.more()
        os.rename(layers[0], tmp_path / "old")
        assert roots.take(layers, str(tmp_path / "c")) == -1
        assert await roots.more()  # gives the old one up
        assert not waiting(tmp_path)
        assert not await roots.more()  # and makes none of a layer that is missing
        shutil.copytree(tmp_path / "old", layers[0])
        assert await roots.more()
        root = roots.take(layers, str(tmp_path / "c"))
        assert os.stat(f"/proc/self/fd/{root}/top").st_ino == os.stat(f"{layers[0]}/top").st_ino
        os.close(root)
        await roots.close()

    asyncio.run(scenario())


def test_one_that_can_not_be_mounted_leaves_nothing(roots, layers, tmp_path) -> None:
    """A layer that is no directory. The next idle moment tries again."""
    os.rename(layers[0], tmp_path / "old")
    Path(layers[0]).write_text("no directory")

    async def scenario() -> None:
        roots.take(layers, str(tmp_path / "c"))
        with pytest.raises((OSError, MinipodError)):
            await roots.more()
        assert not waiting(tmp_path)
        await roots.close()

    asyncio.run(scenario())
    assert not mounted(tmp_path)


def test_what_a_killed_daemon_had_goes_at_the_next_start(layers, tmp_path) -> None:
    left = tmp_path / "prepared" / "left" / "upper"
    left.mkdir(parents=True)
    roots = PreparedRoots(str(tmp_path / "prepared"), Trash(str(tmp_path / "trash")))
    roots.keep(1)
    assert not waiting(tmp_path)
    eventually(lambda: not os.listdir(tmp_path / "trash"))


def test_more_layers_than_fit_into_a_page_are_mounted_by_their_container(
    roots, layers, tmp_path
) -> None:
    async def scenario() -> bool:
        assert roots.take(layers * 60, str(tmp_path / "c")) == -1
        return await roots.more()

    assert not asyncio.run(scenario())


def test_one_that_can_not_be_given_is_undone(roots, layers, tmp_path) -> None:
    """Its directories can't be where the container's are to be."""
    (tmp_path / "taken").write_text("no directory")

    async def scenario() -> None:
        roots.take(layers, str(tmp_path / "c"))
        assert await roots.more()
        before = len(os.listdir("/proc/self/fd"))
        assert roots.take(layers, str(tmp_path / "taken")) == -1
        assert len(os.listdir("/proc/self/fd")) == before - 1
        assert not waiting(tmp_path)
        await roots.close()

    asyncio.run(scenario())
