"""The store: a process that is killed loses nothing it acknowledged, ten thousand objects load soon, what is old is forgotten."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from minipod.apiserver import disk, storage
from minipod.apiserver.storage import Storage
from minipod.apiserver.store_sqlite import SqliteStore
from minipod.errors import Gone, Unavailable

WRITER = """
import asyncio, sys
from minipod.apiserver.store_sqlite import SqliteStore

async def write(store, lane):
    for i in range(100_000):
        name = f"{lane}-{i}"
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": name}}
        made = await store.create("configmaps", "default", obj)
        await store.flush()
        print(name, made["metadata"]["resourceVersion"], flush=True)

async def main():
    store = SqliteStore(sys.argv[1])
    store.open()
    await asyncio.gather(*(write(store, lane) for lane in range(8)))

asyncio.run(main())
"""


def killed_writer(path: str) -> list[list[str]]:
    """Return the names and versions that a process told as stored before it was killed."""
    command = [sys.executable, "-c", WRITER, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        told = [writer.stdout.readline().split() for _ in range(500)]
        os.kill(writer.pid, signal.SIGKILL)
        return told + [line.split() for line in writer.stdout.read().split("\n")[:-1]]


async def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path) -> None:
    path = str(tmp_path / "store.db")
    told = killed_writer(path)
    store = SqliteStore(path)
    store.open()
    for name, version in told:
        found = await store.get("configmaps", "default", name)
        assert found["metadata"]["resourceVersion"] == version
    newest = max(int(version) for _, version in told)
    made = await store.create("configmaps", "default", {"metadata": {"name": "next"}})
    assert int(made["metadata"]["resourceVersion"]) > newest
    store.close()


async def test_ten_thousand_objects_load_in_well_under_a_second(tmp_path) -> None:
    path = str(tmp_path / "store.db")
    filled = Storage(path)
    filled.open()
    for i in range(10_000):
        filled.put(
            ("configmaps", f"n{i % 7}", f"c{i}"), b'{"x":"' + b"x" * 1000 + b'"}', durable=False
        )
    filled.close()
    loaded = Storage(path)
    before = time.perf_counter()
    loaded.open()
    took = time.perf_counter() - before
    places = list(loaded.shelf("configmaps").select(None))
    assert len(places) == 10_000
    assert places == sorted(places)
    assert took < 1.0
    loaded.close()


async def test_versions_that_the_log_no_longer_holds_are_gone(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(storage, "LOG_EVENTS", 10)
    kept = Storage(str(tmp_path / "store.db"))
    kept.open()
    begin = kept.version
    for i in range(20):
        kept.put(("configmaps", "n", "c"), str(i).encode(), durable=False)
    with pytest.raises(Gone):
        kept.since("configmaps", "n", begin)
    assert [e.data for e in kept.since("configmaps", "n", kept.version - 3)] == [
        b"17",
        b"18",
        b"19",
    ]
    kept.close()


async def test_a_reader_in_the_process_hears_every_change(tmp_path) -> None:
    store = SqliteStore(str(tmp_path / "store.db"))
    store.open()
    version = store.version
    heard: list[str] = []

    async def listen() -> None:
        async for event in store.watch("configmaps", "a", version):
            heard.append(f"{event.type} {event.name}")
            if event.type == "DELETED":
                return

    listening = asyncio.create_task(listen())
    for space in ("a", "b"):
        await store.create("configmaps", space, {"metadata": {"name": "x"}})
        await store.mutate("configmaps", space, "x", lambda o: {**o, "data": {"k": "1"}})
        await store.delete("configmaps", space, "x")
    await listening
    assert heard == ["ADDED x", "MODIFIED x", "DELETED x"]
    store.close()


async def test_what_the_disk_refuses_is_told_and_tried_again(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "BUSY", 0.05)
    path = str(tmp_path / "store.db")
    store = SqliteStore(path)
    store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    await store.create("configmaps", "a", {"metadata": {"name": "x"}})
    with pytest.raises(Unavailable, match="database is locked"):
        await store.flush()
    other.execute("ROLLBACK")
    await store.flush()
    assert other.execute("SELECT name FROM objects").fetchall() == [("x",)]
    other.close()
    store.close()


async def test_versions_of_what_is_gone_do_not_come_again(tmp_path, monkeypatch) -> None:
    """A watcher that begins after a restart where it ended would miss everything up to there."""
    monkeypatch.setattr(storage, "LOG_EVENTS", 10)
    path = str(tmp_path / "store.db")
    first = Storage(path)
    first.open()
    for i in range(50):
        key = ("configmaps", "default", f"c{i}")
        first.put(key, b"{}", durable=False)
        first.remove(key, b"{}", durable=False)
    newest = first.version
    first.close()
    second = Storage(path)
    second.open()
    assert second.version > newest
    second.close()
