"""When a TCP peer counts as gone: by what the kernel tells of it, and on a real connection whose peer only does not read. What follows."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time

import pytest

from minipod.linux.tcp import TcpInfo, tcp_info
from minipod.streaming import presence as watched
from minipod.streaming.presence import SILENCE, SILENCE_FULL, Presence, is_silent


@pytest.mark.parametrize(
    ("retransmits", "probes", "window", "since", "gone"),
    [
        pytest.param(0, 0, 65536, 10**8, False, id="nothing to say for a day"),
        pytest.param(7, 0, 65536, SILENCE, True, id="data in vain"),
        pytest.param(7, 0, 65536, SILENCE - 1, False, id="data in vain, not long yet"),
        pytest.param(1, 0, 65536, SILENCE, False, id="a packet lost after a long silence"),
        pytest.param(0, 1, 0, 119_000, False, id="a reader that stands still"),
        pytest.param(3, 0, 0, 119_000, False, id="one whose kernel dropped the last packets"),
        pytest.param(0, 9, 0, SILENCE_FULL, True, id="one that stood still, and is gone"),
    ],
)
def test_a_peer_is_gone_when_it_acknowledges_nothing(
    retransmits, probes, window, since, gone
) -> None:
    info = TcpInfo(retransmits=retransmits, probes=probes, last_ack_recv=since, snd_wnd=window)
    assert is_silent(info) is gone


def test_the_kernel_tells_of_a_peer_that_reads_nothing() -> None:
    """Its window closes: a field at the wrong place would not say so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        with ours, theirs:
            before = tcp_info(ours)
            ours.setblocking(False)
            deadline = time.monotonic() + 10
            while (after := tcp_info(ours)).snd_wnd and time.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    ours.send(bytes(1 << 16))
    assert before.snd_wnd > 1 << 10
    assert after.snd_wnd == 0
    assert after.last_ack_recv < 10_000


class Request:
    """The part of a request that tells of its connection."""

    def __init__(self, ours: socket.socket | None) -> None:
        self.socket = ours
        self.transport = self if ours is not None else None

    def get_extra_info(self, name: str) -> object:
        assert name == "socket"
        return self.socket


@pytest.fixture
def line():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        before = sorted(os.listdir("/proc/self/fd"))
        yield Presence(Request(ours)), theirs
        assert sorted(os.listdir("/proc/self/fd")) == before


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_work_that_is_over_is_all_that_is_waited_for(line) -> None:
    presence, _ = line
    tasks = asyncio.all_tasks()
    during: list[object] = []

    async def work() -> None:
        await asyncio.sleep(0)
        during.append(asyncio.all_tasks() - tasks)

    await presence.hold(work())
    assert during == [set()]


async def test_what_work_raises_is_raised_a_timeout_of_its_own_too(line) -> None:
    presence, _ = line

    async def work() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await presence.hold(work())


async def test_work_ends_when_the_client_has_gone_and_has_time_for_what_that_had_sent(line) -> None:
    presence, theirs = line
    done: list[str] = []

    async def work() -> None:
        theirs.shutdown(socket.SHUT_WR)
        for _ in range(5):
            await asyncio.sleep(0)
        done.append("delivered")
        await for_ever()

    await presence.hold(work())
    assert done == ["delivered"]


async def test_a_client_that_does_not_take_a_ping_has_gone(line, monkeypatch) -> None:
    presence, _ = line
    monkeypatch.setattr(watched, "PING", 0.01)
    monkeypatch.setattr(watched, "DELIVERY", 0.0)
    pings: list[int] = []

    async def ping() -> None:
        pings.append(len(pings))
        if len(pings) == 3:
            raise ConnectionResetError

    await presence.hold(for_ever(), ping)
    assert pings == [0, 1, 2]


async def test_a_ping_that_waits_is_not_sent_twice_and_ends_with_the_work(
    line, monkeypatch
) -> None:
    presence, _ = line
    monkeypatch.setattr(watched, "PING", 0.01)
    pings: list[str] = []
    pinged = asyncio.Event()

    async def ping() -> None:
        pings.append("sent")
        pinged.set()
        try:
            await for_ever()
        finally:
            pings.append("over")

    async def work() -> None:
        await pinged.wait()
        await asyncio.sleep(0.05)

    await presence.hold(work(), ping)
    assert pings == ["sent", "over"]


async def test_without_a_connection_or_descriptors_nobody_is_there(line, monkeypatch) -> None:
    presence, _ = line
    monkeypatch.setattr(watched, "DELIVERY", 0.0)
    await Presence(Request(None)).hold(for_ever())

    def none_left() -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(watched.select, "epoll", none_left)
    await presence.hold(for_ever())
