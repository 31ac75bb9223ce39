"""Port-forward and SPDY's exec with a client that does anything, in memory: no error, no task and no descriptor is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.errors import FailedPrecondition
from minipod.streaming import spdy
from minipod.streaming.portforward import PortForward
from minipod.streaming.presence import Presence
from minipod.streaming.remotecommand import Wanted
from minipod.streaming.remotes import SpdyRemote


class Client:
    """A carrier whose client sends what the steps say, and then goes; from *deaf* answers on it takes nothing more."""

    def __init__(self, steps, deaf: int) -> None:
        self._pieces = [piece for piece in map(self._piece(), steps) if piece]
        self._deaf = deaf
        self.said = b""

    @staticmethod
    def _piece():
        mine = spdy.Connection(client=True)
        streams: list[int] = []

        def piece(step) -> bytes:
            kind, number, raw = step
            stream = streams[number % len(streams)] if streams else number
            if kind == "raw":
                return raw
            if kind in ("error", "data", "stdin", "stdout", "odd"):
                port = ("80", "81", "x")[number % 3]
                headers = {"streamtype": kind, "port": port, "requestid": str(number % 4)}
                streams.append(mine.open(headers, fin=bool(raw[:1] > b"\x80")))
            elif kind == "pair":
                headers = {"port": "80", "requestid": str(number)}
                streams.extend(mine.open({"streamtype": t, **headers}) for t in ("error", "data"))
            elif kind == "send":
                mine.send(stream, raw)
            elif kind == "fin":
                mine.send(stream, raw, fin=True)
            elif kind == "reset":
                mine.reset(stream)
            return mine.take()

        return piece

    async def receive(self) -> bytes:
        await asyncio.sleep(0)
        return self._pieces.pop(0) if self._pieces else b""

    async def send(self, data: bytes) -> None:
        await asyncio.sleep(0)
        self._deaf -= 1
        if self._deaf < 0:
            raise ConnectionResetError("gone")
        self.said += data


KINDS = ["pair", "pair", "error", "data", "stdin", "stdout", "odd", "send", "fin", "reset", "raw"]


class Present(Presence):
    """The presence of a client that has no connection of its own: what it does not send tells."""

    def __init__(self) -> None:
        pass

    async def hold(self, work, ping=None) -> None:
        await work


STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 20), st.binary(max_size=40)), max_size=25
)


async def nothing_is_left(client, serve) -> None:
    before, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
    await asyncio.wait_for(serve(client), 30)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == tasks
    assert len(os.listdir("/proc/self/fd")) <= before  # garbage of others may have gone meanwhile


async def forward(client: Client) -> None:
    """Port 80 leads to a socket pair whose other side talks and half-closes; nobody listens on 81."""
    others: list[socket.socket] = []

    async def connect(port: int) -> socket.socket:
        await asyncio.sleep(0)
        if port != 80:
            raise FailedPrecondition("connection refused")
        ours, other = socket.socketpair()
        ours.setblocking(False)
        other.send(b"welcome")
        others.append(other)
        if len(others) % 2:
            other.shutdown(socket.SHUT_WR)
        return ours

    try:
        await PortForward(client, connect).run(Present())
    finally:
        for other in others:
            other.close()


async def remote(client: Client) -> None:
    found = SpdyRemote(client, "v4.channel.k8s.io", Wanted(stdin=True, stdout=True))
    with contextlib.suppress(ConnectionError):
        await found.accept()
        async for _ in found.incoming():
            pass
        await found.finish({"status": "Success"})


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(0, 60))
def test_port_forward_survives_any_client(steps, deaf) -> None:
    asyncio.run(nothing_is_left(Client(steps, deaf), forward))


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(0, 60))
def test_a_remote_over_spdy_survives_any_client(steps, deaf) -> None:
    asyncio.run(nothing_is_left(Client(steps, deaf), remote))
