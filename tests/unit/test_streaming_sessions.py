"""exec, attach and port-forward with a client that sends anything, cut anywhere, and goes at any point.

No error, task or descriptor is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minipod.cli import websocket
from minipod.streaming import remotecommand, server
from minipod.streaming.remotecommand import Wanted
from tests.streaming import VERBS, Cat, Site, over_websocket

PAYLOADS = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"\x00", b"\x04", b'{"Width":80,"Height":24}\n', b'{"Width":1e999,"Height":1}', b"[" * 3000,
                     b'{"Height":' * 300, b"\xff" * 200]),
)  # fmt: skip
MESSAGES = st.one_of(
    st.tuples(st.just(websocket.BINARY), st.integers(0, 255), PAYLOADS),
    st.tuples(st.just(websocket.BINARY), st.sampled_from([0, 0, 0, 1, 2, 3, 4, 4, 255]), PAYLOADS),
    st.tuples(st.sampled_from([0, 1, 3, 8, 9, 10, 15]), st.integers(0, 127), PAYLOADS),
    st.tuples(st.just(-1), st.just(0), st.binary(min_size=1, max_size=30)),  # no frame at all
)
LEAVINGS = st.sampled_from(["abort", "end of file", "close frame", "end of stdin"])


async def say(reader, writer, messages, cuts, leaving: str) -> None:
    """Send the frames in pieces of the sizes *cuts*; then leave as told."""
    wire = b"".join(
        raw if opcode < 0 else websocket.frame(opcode, bytes([channel]) + raw)
        for opcode, channel, raw in messages
    )
    if leaving == "close frame":
        wire += websocket.frame(websocket.CLOSE, b"\x03\xe8")
    elif leaving == "end of stdin":
        wire += websocket.frame(websocket.BINARY, b"\xff\x00")
    listening = asyncio.create_task(reader.read(-1))
    with contextlib.suppress(ConnectionError):
        for n in range(len(wire)):
            if not wire:
                break
            size = cuts[n % len(cuts)]
            writer.write(wire[:size])
            await writer.drain()
            await asyncio.sleep(0)
            wire = wire[size:]
        if leaving == "end of file":
            writer.write_eof()
    if leaving == "end of stdin":
        await asyncio.wait({listening}, timeout=0.05)
    writer.transport.abort()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def nothing_is_left(serve) -> None:
    """Run *serve* in a loop of its own; afterwards there are no tasks but ours and no more descriptors."""

    async def run() -> None:
        before = descriptors()
        site = await serve()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not site.raised
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert descriptors() <= before  # garbage of others may have gone meanwhile

    asyncio.run(run())


@settings(max_examples=150, deadline=None)
@given(
    protocol=st.sampled_from([p.name for p in server.REMOTE_COMMAND]),
    messages=st.lists(MESSAGES, max_size=12),
    cuts=st.lists(st.integers(1, 70), min_size=1, max_size=5),
    leaving=LEAVINGS,
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    tty=st.booleans(),
    failing=st.one_of(st.just(frozenset()), st.frozensets(st.sampled_from(VERBS))),
)
def test_a_session_survives_any_client(
    protocol, messages, cuts, leaving, flags, tty, failing
) -> None:
    """Also when the runtime's verbs fail."""
    attached, deaf, stubborn = flags

    async def serve() -> Site:
        cat = Cat(attached=attached, deaf=deaf, stubborn=stubborn, failing=failing)
        wanted = Wanted(stdin=True, stdout=True, stderr=not tty, tty=tty)
        async with Site(cat, wanted) as site:
            await say(*await over_websocket(site, "/exec", protocol), messages, cuts, leaving)
        assert cat.detached == (attached and "start" not in failing)
        return site

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remotecommand, "HANG_UP", 0.01)
        patch.setattr(remotecommand, "CONSOLE_END", 0.01)
        nothing_is_left(serve)


@settings(max_examples=100, deadline=None)
@given(
    protocol=st.sampled_from(["v4.channel.k8s.io", "v4.base64.channel.k8s.io"]),
    ports=st.lists(st.sampled_from(["80", "81", "80,80"]), min_size=1, max_size=3),
    messages=st.lists(MESSAGES, max_size=12),
    cuts=st.lists(st.integers(1, 70), min_size=1, max_size=5),
    leaving=LEAVINGS,
)
def test_numbered_ports_survive_any_client(protocol, ports, messages, cuts, leaving) -> None:
    async def serve() -> Site:
        async with Site(Cat(), Wanted()) as site:
            target = "/ports?" + "&".join(f"ports={p}" for p in ports)
            await say(*await over_websocket(site, target, protocol), messages, cuts, leaving)
        return site

    nothing_is_left(serve)
