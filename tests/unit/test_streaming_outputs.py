"""What a process says, on its way to a client: all of it, in order, and by a task only where one is needed. The pipe is real."""

from __future__ import annotations

import asyncio
import os

import pytest

from minipod.streaming.outputs import Output


class Client:
    """Takes what it is sent; after *takes* messages it has gone."""

    def __init__(self, takes: int = 1000) -> None:
        self.heard: list[bytes] = []
        self._takes = takes

    async def send(self, chunk: bytes) -> None:
        await asyncio.sleep(0)
        if len(self.heard) == self._takes:
            raise ConnectionResetError
        self.heard.append(chunk)


@pytest.fixture
def pipe():
    reader, writer = os.pipe2(os.O_NONBLOCK)
    yield reader, writer
    os.close(reader)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_silent_process_takes_no_task(pipe) -> None:
    reader, writer = pipe
    before, client = asyncio.all_tasks(), Client()
    output = Output(reader, client.send)
    os.close(writer)
    await turns()
    assert asyncio.all_tasks() == before
    await output.drained()
    await output.close()
    assert client.heard == []


async def test_what_is_said_while_it_runs_is_sent_at_once_and_the_rest_at_the_end(pipe) -> None:
    reader, writer = pipe
    client = Client()
    output = Output(reader, client.send)
    os.write(writer, b"one")
    await turns()
    assert client.heard == [b"one"]
    os.write(writer, b"two")  # and a child that was left behind holds it open
    output.finish()
    await output.drained()
    assert client.heard == [b"one", b"two"]
    await output.close()
    os.close(writer)


async def test_last_words_that_nobody_has_seen_yet_are_sent(pipe) -> None:
    reader, writer = pipe
    client = Client()
    output = Output(reader, client.send)
    os.write(writer, b"last")
    output.finish()
    await output.drained()
    assert client.heard == [b"last"]
    await output.close()
    os.close(writer)


@pytest.mark.parametrize("wanted", [True, False], ids=["whose client goes", "that nobody wants"])
async def test_one_is_read_all_the_same(pipe, wanted: bool) -> None:
    """The process would block for ever."""
    reader, writer = pipe
    client = Client(takes=1)
    output = Output(reader, client.send if wanted else None)
    for _ in range(4):
        os.write(writer, bytes(60_000))
        await turns()
    os.close(writer)
    await output.drained()
    await output.close()
    assert len(client.heard) == (1 if wanted else 0)


async def test_one_that_goes_on_is_let_go(pipe) -> None:
    reader, writer = pipe
    output = Output(reader, Client().send)
    os.write(writer, b"more")
    await turns()
    await output.close()
    await output.close()
    os.close(writer)
