"""The daemon's end of the supervisor's socket, when the other end is slow or goes away. Excluded: a supervisor."""

from __future__ import annotations

import asyncio
import socket

import pytest

from minipod.errors import Unavailable
from minipod.runtime.supervisor_client import SupervisorClient
from minipod.supervisor import protocol


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
        made.bind(str(tmp_path / "sock"))
        made.listen()
        yield made


async def fill(client: SupervisorClient) -> list[asyncio.Task]:
    """Ask until some requests wait for room in the socket."""
    asked = []
    while len(client._blocked) < 3:
        asked.append(asyncio.ensure_future(client.request("ask", text="x" * 4000)))
        await asyncio.sleep(0)
    return asked


async def test_requests_that_wait_for_room_fail_when_the_supervisor_goes(listener) -> None:
    lost = asyncio.Event()
    client = SupervisorClient(listener.getsockname(), on_lost=lost.set)
    client.connect()
    server, _ = listener.accept()
    asked = await fill(client)
    server.close()
    async with asyncio.timeout(30):
        results = await asyncio.gather(*asked, return_exceptions=True)
        await lost.wait()
    assert {type(r) for r in results} == {Unavailable}
    with pytest.raises(Unavailable):
        await client.request("ask")


async def test_requests_that_wait_for_room_are_all_sent_when_there_is_some(listener) -> None:
    client = SupervisorClient(listener.getsockname())
    client.connect()
    server, _ = listener.accept()
    asked = await fill(client)

    def answer_all() -> None:
        for _ in asked:
            message, _fds = protocol.receive(server)
            protocol.send(server, {"n": message["n"], "ok": {}})

    async with asyncio.timeout(30):
        await asyncio.gather(asyncio.to_thread(answer_all), *asked)
    client.close()
    server.close()


async def test_a_second_connect_fails_what_waits_on_the_first(listener) -> None:
    client = SupervisorClient(listener.getsockname())
    client.connect()
    first, _ = listener.accept()
    asked = asyncio.ensure_future(client.request("ask"))
    await asyncio.sleep(0)
    client.connect()
    second, _ = listener.accept()
    with pytest.raises(Unavailable):
        await asked
    assert protocol.receive(first)[0]["op"] == "ask"
    assert protocol.receive(first)[0] is None
    client.close()
    first.close()
    second.close()
