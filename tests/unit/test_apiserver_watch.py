"""Watches over HTTP: where they begin, what a selecting one sees, bookmarks, tables, and a client that does not read."""

from __future__ import annotations

import asyncio
import socket

import pytest

from minipod.apiserver import fanout
from minipod.apiserver.storage import Storage
from tests.apiserver import SPACE, Server, config_map

MAPS = f"{SPACE}/configmaps"

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@pytest.fixture
async def server(tmp_path):
    async with Server(tmp_path) as made:
        yield made


async def put(server, name, labels=None, **data) -> dict:
    obj = config_map(name, labels, **data)
    answer = await server.call("POST", MAPS, obj)
    return (
        answer if answer.status == 201 else await server.call("PUT", f"{MAPS}/{name}", obj)
    ).json


async def test_a_watch_begins_with_what_is_there_or_after_a_version(server) -> None:
    version = (await put(server, "a"))["metadata"]["resourceVersion"]
    await put(server, "b")
    everything = await server.watch(f"{MAPS}?watch=1")
    assert await everything.some(2) == [("ADDED", "a"), ("ADDED", "b")]
    later = await server.watch(f"{MAPS}?watch=1&resourceVersion={version}")
    assert await later.some(1) == [("ADDED", "b")]
    await put(server, "b", k="2")
    await server.call("DELETE", f"{MAPS}/a")
    for watching in (everything, later):
        assert await watching.some(2) == [("MODIFIED", "b"), ("DELETED", "a")]
        watching.close()


async def test_a_selecting_watch_sees_objects_come_and_go(server) -> None:
    watching = await server.watch(f"{MAPS}?watch=1&labelSelector=app%3Dx")
    await put(server, "a", {"app": "y"})
    await put(server, "a", {"app": "x"})
    await put(server, "a", {"app": "x"}, k="1")
    await put(server, "a", {"app": "y"})
    await server.call("DELETE", f"{MAPS}/a")
    await put(server, "b", {"app": "x"})
    assert await watching.some(4) == [
        ("ADDED", "a"),
        ("MODIFIED", "a"),
        ("DELETED", "a"),
        ("ADDED", "b"),
    ]
    watching.close()


async def test_initial_events_end_with_a_bookmark(server) -> None:
    await put(server, "a")
    query = (
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    )
    watching = await server.watch(f"{MAPS}?{query}")
    assert await watching.some(1) == [("ADDED", "a")]
    bookmark = await watching.next()
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    watching.close()


async def test_a_bookmark_comes_after_everything_that_it_stands_for(server, monkeypatch) -> None:
    """Also when the changes before it are more than one flush takes: who begins anew at its version must have seen them."""
    monkeypatch.setattr("minipod.apiserver.watching.BOOKMARK", 0.2)
    monkeypatch.setattr(fanout, "FLUSH_MAX", 10_000)
    watching = await server.watch(f"{MAPS}?watch=1&allowWatchBookmarks=true")
    await put(server, "first")
    assert await watching.some(1) == [("ADDED", "first")]
    server.api._fanout._due = True  # from now on nothing but a bookmark flushes
    for i in range(30):
        await put(server, f"m{i}", k="x" * 1000)
    seen, marked = 0, 0
    while seen < 30 or marked == 0:
        event = await asyncio.wait_for(watching.next(), 30)
        version = int(event["object"]["metadata"]["resourceVersion"])
        if event["type"] == "BOOKMARK":
            marked = version
        else:
            assert version > marked
            seen += 1
    watching.close()


async def test_a_forgotten_version_is_gone(server) -> None:
    watching = await server.watch(f"{MAPS}?watch=1&resourceVersion=1")
    event = await watching.next()
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == (
        "ERROR",
        410,
        "Expired",
    )


async def test_a_watch_ends_in_time(server) -> None:
    watching = await server.watch(f"{MAPS}?watch=1&timeoutSeconds=1")
    assert await asyncio.wait_for(watching.answer.read(), 30) == b""


async def test_a_watch_of_tables(server) -> None:
    watching = await server.watch(f"{MAPS}?watch=1", TABLE)
    await put(server, "a", k="1")
    table = (await watching.next())["object"]
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"][:2] == ["a", "1"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    watching.close()


async def test_many_watchers_get_every_change_once_in_order(server) -> None:
    watchers = [await server.watch(f"{MAPS}?watch=1") for _ in range(20)]
    await put(server, "a", k="0")
    for i in range(1, 50):
        await put(server, "a", k=str(i))
    for watching in watchers:
        values = [(await watching.next())["object"]["data"]["k"] for _ in range(50)]
        assert values == [str(i) for i in range(50)]
        watching.close()


async def test_a_client_that_does_not_read_is_cut_off_and_hinders_nobody(
    server, monkeypatch
) -> None:
    monkeypatch.setattr("minipod.apiserver.watching.DRAIN", 0.2)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, server.socket)
        request = f"GET {MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        await loop.sock_sendall(deaf, request)
        assert (await loop.sock_recv(deaf, 12)) == b"HTTP/1.1 200"
        hearing = await server.watch(f"{MAPS}?watch=1")
        for i in range(30):
            await put(server, "big", k=str(i) + "x" * 100_000)
            assert (await hearing.next())["object"]["data"]["k"].startswith(str(i))
        came = 0
        try:
            while more := await loop.sock_recv(deaf, 1 << 20):
                came += len(more)
                await asyncio.sleep(0.3)  # it reads again, but too late
        except ConnectionResetError:
            pass  # cut off before it had read everything
        assert came < 2_500_000  # of 3 MB: what waited for it was bounded
        hearing.close()


async def test_a_burst_larger_than_a_flush_reaches_everybody(server, monkeypatch) -> None:
    """Many changes in one turn of the loop: the watchers catch up from the log, each at its own pace."""
    monkeypatch.setattr(fanout, "FLUSH_MAX", 10_000)
    watchers = [await server.watch(f"{MAPS}?watch=1") for _ in range(3)]
    for i in range(40):
        await put(server, f"m{i}", {"burst": "1"}, k="x" * 1000)
    gone = await server.call("DELETE", f"{MAPS}?labelSelector=burst")
    assert len(gone.json["items"]) == 40
    for watching_one in watchers:
        events = await watching_one.some(80)
        assert [kind for kind, _ in events] == ["ADDED"] * 40 + ["DELETED"] * 40
    await put(server, "after")
    for watching_one in watchers:
        assert await watching_one.some(1) == [("ADDED", "after")]
        watching_one.close()


async def test_a_slow_client_gets_everything_when_it_reads(server, monkeypatch) -> None:
    monkeypatch.setattr(fanout, "BUFFER_MAX", 100_000)
    slow = await server.watch(f"{MAPS}?watch=1")
    for i in range(40):
        await put(server, "big", k=str(i) + "x" * 100_000)
    values = [(await slow.next())["object"]["data"]["k"].rstrip("x") for _ in range(40)]
    assert values == [str(i) for i in range(40)]
    slow.close()


class Transport:
    """A client's connection; whether it has *gone*, and what it got."""

    def __init__(self) -> None:
        self.gone = False
        self.got: list[bytes] = []

    def is_closing(self) -> bool:
        return self.gone

    def write(self, data: bytes) -> None:
        self.got.append(data)

    def get_write_buffer_size(self) -> int:
        return 0


async def test_who_leaves_a_channel_that_is_no_more_does_not_take_the_next_one_away(tmp_path):
    """A watch whose client has gone ends a moment later than it is found gone: others of its view may have come and gone since."""
    storage = Storage(str(tmp_path / "store.db"))
    storage.open()
    hub = fanout.Fanout(storage)

    def join(transport: Transport) -> tuple[fanout.Channel, fanout.Member]:
        def view() -> fanout.Channel:
            return fanout.Channel("configmaps", None, None, lambda _kind, _obj, data: data)

        channel = hub.channel("all", view)
        member = fanout.Member(transport, chunked=False)
        channel.members.add(member)
        return channel, member

    def change(data: bytes) -> None:
        storage.put(("configmaps", "a", "b"), data, durable=False)
        hub._flush()

    first, second, third = Transport(), Transport(), Transport()
    left, still = join(first), join(second)
    first.gone = second.gone = True
    change(b"1")
    hub.leave("all", *left)
    join(third)
    hub.leave("all", *still)
    change(b"2")
    assert third.got == [b"2"]
    storage.close()
