"""A client of the API that costs next to nothing: raw HTTP/1.1 over the unix socket, prepared requests, answers read by their length.

What a client's own work costs would be in every figure otherwise: on two cores it takes as much as the server.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any

JSON, MERGE = "application/json", "application/merge-patch+json"


def request(method: str, path: str, body: Any = None, media: str = JSON) -> bytes:
    """Return a request as it is sent."""
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: minipod\r\nUser-Agent: bench/1\r\nContent-Type: {media}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Lane(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._answer: asyncio.Future[bytes] | None = None
        self._length = -1  # of the whole answer; -1: its head has not come yet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._length < 0:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._data[:end]).lower()
            self._length = end + 4 + int(head.partition(b"content-length:")[2].split(None, 1)[0])
        if len(self._data) >= self._length and self._answer is not None:
            answer, self._answer = self._answer, None
            whole, self._data, self._length = bytes(self._data), bytearray(), -1
            answer.set_result(whole)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server hung up"))

    async def ask(self, sent: bytes) -> bytes:
        """Send a prepared request; return the answer with its head. Raises RuntimeError unless it is 2xx."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(sent)
        answer = await self._answer
        if answer[9:10] != b"2":
            raise RuntimeError(answer.decode(errors="replace")[:2000])
        return answer


class Watcher(asyncio.Protocol):
    """A watch that counts what has changed; it does not parse."""

    def __init__(self, sent: bytes) -> None:
        self._sent = sent
        self.started = asyncio.get_running_loop().create_future()
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._sent)

    def data_received(self, data: bytes) -> None:
        if not self.started.done():
            self.started.set_result(None)
        self.events += data.count(b'"type":"MODIFIED"')

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.started.done():
            self.started.set_exception(exc or ConnectionError("the server hung up"))


async def lane(path: str) -> Lane:
    """Connect to the API's socket at *path*."""
    _, made = await asyncio.get_running_loop().create_unix_connection(Lane, path)
    return made


async def at_once(path: str, requests: Iterable[bytes], lanes: int) -> float:
    """Send *requests* over so many connections, each one after another; return the seconds."""
    members = [await lane(path) for _ in range(lanes)]
    waiting = iter(requests)

    async def drive(member: Lane) -> None:
        for sent in waiting:
            await member.ask(sent)

    begin = time.perf_counter()
    await asyncio.gather(*map(drive, members))
    took = time.perf_counter() - begin
    for member in members:
        member.transport.close()
    return took
