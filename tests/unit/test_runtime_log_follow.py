"""A follower of a log that is rotated: every line once and in order, whenever the rotations come. Excluded: the pump, the rotator."""

from __future__ import annotations

import asyncio
import gzip
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.runtime import logs
from minipod.runtime.log_files import rotated

STAMP = b"2026-11-24T10:00:00.000000000Z stdout F "


class Writer:
    """Does what the pump and the rotator do, step by step."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines = self.rotations = 0
        self.fd = -1
        self.reopen()

    def write(self, count: int = 1) -> None:
        records = (b"%s%d\n" % (STAMP, self.lines + i) for i in range(count))
        os.write(self.fd, b"".join(records))
        self.lines += count

    def rename(self) -> None:
        if os.path.exists(self.path):
            self.rotations += 1
            os.rename(self.path, f"{self.path}.20260101-000000.{self.rotations:04d}")

    def reopen(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)

    def compress(self) -> None:
        """Compress all but the newest, as gzip does: the new file is whole before the old one goes, and as old."""
        for name in rotated(self.path)[:-1]:
            if name.endswith(".gz"):
                continue
            with open(name, "rb") as plain, gzip.open(f"{name}.gz", "wb") as zipped:
                zipped.write(plain.read())
                info = os.fstat(plain.fileno())
            os.utime(f"{name}.gz", ns=(info.st_atime_ns, info.st_mtime_ns))
            os.unlink(name)

    def expected(self) -> bytes:
        return b"".join(b"%d\n" % n for n in range(self.lines))


STEPS = st.lists(st.sampled_from(["write", "rename", "reopen", "compress", "read"]), max_size=40)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_every_line_comes_once_whenever_the_reader_reads(tmp_path_factory, steps) -> None:
    """A step "read" lets a slow reader take one chunk; at the end it takes the rest."""
    path = str(tmp_path_factory.mktemp("log") / "0.log")

    async def follow() -> bytes:
        writer, ended, taken = Writer(path), asyncio.Event(), []
        chunks = logs.read(path, logs.LogOptions(follow=True), ended.is_set, ended.wait)
        pending = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0)  # it has begun
        for step in steps:
            if step != "read":
                getattr(writer, step)()
                continue
            await asyncio.wait({pending}, timeout=0)
            if pending.done():
                taken.append(pending.result())
                pending = asyncio.ensure_future(anext(chunks))
        writer.reopen()
        writer.write()
        ended.set()
        os.close(writer.fd)
        taken.append(await pending)
        taken += [chunk async for chunk in chunks]
        assert b"".join(taken) == writer.expected()

    before, logs.CHUNK = logs.CHUNK, 100
    try:
        asyncio.run(follow())
    finally:
        logs.CHUNK = before


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_writer_beside_the_reader_loses_nothing(tmp_path, compressed: bool) -> None:
    """A thread writes and rotates as fast as it can, and writes between rename and reopen."""
    path = str(tmp_path / "0.log")
    writer, ended = Writer(path), asyncio.Event()
    loop = asyncio.get_running_loop()

    def run() -> None:
        for _ in range(150):
            writer.write(50)
            writer.rename()
            writer.write(50)
            writer.reopen()
            if compressed:
                writer.compress()
        loop.call_soon_threadsafe(ended.set)

    thread = threading.Thread(target=run)
    chunks = logs.read(path, logs.LogOptions(follow=True), ended.is_set, ended.wait)
    writer.write()
    text = await anext(chunks)  # it has begun
    thread.start()
    text += b"".join([chunk async for chunk in chunks])
    await asyncio.to_thread(thread.join)
    os.close(writer.fd)
    assert text.splitlines() == writer.expected().splitlines()


async def test_a_log_that_goes_away_ends_its_reader(tmp_path) -> None:
    """The pod is deleted while it is followed: the directory goes, too."""
    directory = tmp_path / "app"
    directory.mkdir()
    writer, ended = Writer(str(directory / "0.log")), asyncio.Event()
    writer.write(3)
    chunks = logs.read(writer.path, logs.LogOptions(follow=True), ended.is_set, ended.wait)
    assert [await anext(chunks), await anext(chunks)] == [b"", b"0\n1\n2\n"]
    os.unlink(writer.path)
    directory.rmdir()
    os.close(writer.fd)
    ended.set()
    assert [chunk async for chunk in chunks] == []


async def test_a_log_that_is_not_there_yet_has_no_text(tmp_path) -> None:
    """The container runs, and the pump has not opened its file: that is no error of who asks."""
    ended = asyncio.Event()
    chunks = logs.read(f"{tmp_path}/0.log", logs.LogOptions(), ended.is_set, ended.wait)
    assert [chunk async for chunk in chunks] == [b""]
