"""The store: a process that is killed loses nothing it acknowledged, ten thousand objects load soon, what is old is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from minipod.apiserver import disk, storage, store_file
from minipod.apiserver.storage import Storage
from minipod.apiserver.store_sqlite import SqliteStore
from minipod.errors import FailedPrecondition, Gone, Unavailable

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
    before = time.process_time()  # a loaded machine lets us wait
    loaded.open()
    took = time.process_time() - before
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


@pytest.mark.parametrize("patience", [0.01, 3600.0])
async def test_a_patient_reader_hears_of_changes_later_and_in_their_order(
    tmp_path, patience: float
) -> None:
    """By then the other one, which came behind it, has heard of all of one turn of the loop."""
    store = SqliteStore(str(tmp_path / "store.db"))
    store.open()
    version, heard = store.version, asyncio.Queue()

    async def listen(who: str, patience: float) -> None:
        async for event in store.watch("configmaps", None, version, patience=patience):
            heard.put_nowait((who, event.name))

    listening = [asyncio.create_task(listen("patient", patience))]
    listening.append(asyncio.create_task(listen("hurried", 0.0)))
    await asyncio.sleep(0)
    names = ["a", "b", "c"]
    for name in names:
        await store.create("configmaps", "default", {"metadata": {"name": name}})
    told = [await heard.get() for _ in names]
    assert told == [("hurried", name) for name in names]
    if patience > 1:
        assert heard.empty()
    else:
        assert [await heard.get() for _ in names] == [("patient", name) for name in names]
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
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


def first_store(path: str) -> None:
    """Make a store as the first layout was."""
    with open(f"{os.path.dirname(__file__)}/stores/first.sql", encoding="utf-8") as f:
        db = sqlite3.connect(path)
        db.executescript(f.read())
        db.close()


def read(path: str, question: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(question).fetchall()


async def test_a_store_of_the_first_layout_is_brought_to_this_one(tmp_path) -> None:
    path = str(tmp_path / "store.db")
    first_store(path)
    newest = read(path, "SELECT max(rv) FROM objects")[0][0]
    before = read(path, "SELECT resource, namespace, name, rv, data FROM objects ORDER BY rv")
    store_file.check(path)
    store = SqliteStore(path)
    store.open()
    pod = await store.get("pods", "default", "a")
    assert pod["status"]["phase"] == "Running"
    made = await store.create("configmaps", "default", {"metadata": {"name": "next"}})
    assert int(made["metadata"]["resourceVersion"]) > newest
    store.close()
    assert read(path, "PRAGMA user_version") == [(store_file.FORMAT,)]
    after = (
        "SELECT resource, namespace, name, rv, data FROM objects WHERE name != 'next' ORDER BY rv"
    )
    assert read(path, after) == before
    again = SqliteStore(path)
    again.open()
    assert await again.get("pods", "default", "a") == pod
    again.close()


async def test_a_migration_that_is_cut_short_leaves_the_old_store(tmp_path, monkeypatch) -> None:
    path = str(tmp_path / "store.db")
    first_store(path)
    before = read(path, "SELECT * FROM objects")
    monkeypatch.setattr(store_file, "_BY_NAME", f"{store_file._BY_NAME} SELECT no_such_function();")
    with pytest.raises(sqlite3.OperationalError):
        list(disk.Disk(path).load())
    assert read(path, "SELECT * FROM objects") == before
    assert read(path, "PRAGMA user_version") == [(0,)]


async def test_a_store_of_this_layout_without_a_number_gets_one(tmp_path) -> None:
    """Excluded: any change of its rows."""
    path = str(tmp_path / "store.db")
    store = SqliteStore(path)
    store.open()
    await store.create("configmaps", "default", {"metadata": {"name": "x"}})
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=0")
    again = SqliteStore(path)
    again.open()
    assert (await again.get("configmaps", "default", "x"))["metadata"]["name"] == "x"
    again.close()
    assert read(path, "PRAGMA user_version") == [(store_file.FORMAT,)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, f"has format {store_file.FORMAT + 1}, of a newer minipod"),
        (b"no store", "is no store"),
    ],
    ids=["newer", "something else"],
)
def test_a_store_that_is_not_ours_to_open_is_left_alone(tmp_path, content, words) -> None:
    path = tmp_path / "store.db"
    if content:
        path.write_bytes(content)
    else:
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE objects (x)")
            db.execute(f"PRAGMA user_version={store_file.FORMAT + 1}")
    before = path.read_bytes()
    with pytest.raises(FailedPrecondition, match=words) as raised:
        store_file.check(str(path))
    assert "minipod that wrote it" in raised.value.hint
    with pytest.raises((FailedPrecondition, sqlite3.DatabaseError)):
        SqliteStore(str(path)).open()
    assert path.read_bytes() == before
