"""A reverse proxy that breaks answers: cut, slow, silent, corrupt, another status, a redirect. asyncio, in a thread of its own, so that
it serves whoever asks: a client in the test's loop, or a node that is another process.

One request for each connection. `faults` are tried in order for each request; one that is used `times` times is gone.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Fault:
    """What happens to the answers of requests whose first line contains *path*."""

    path: str
    times: int = 1
    method: str = "GET"
    cut: int = -1  # close after so many bytes of the body
    silent: int = -1  # say nothing more after so many bytes of the body
    corrupt: int = -1  # another byte there
    slow: float = 0.0  # seconds before each piece of the body
    answer: bytes = b""  # instead of asking the registry
    endless: bool = False  # *answer*, then zeros without end
    ranges: bool = True  # False: the registry does not hear of a Range


@dataclass(kw_only=True)
class Seen:
    """A request."""

    method: str
    target: str
    headers: dict[str, str]


@dataclass
class FaultProxy:
    """Stands before the server at *port*; use it as a context manager."""

    port_behind: int
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    add: dict[str, str] = field(default_factory=dict)  # headers for the server behind
    address: str = "127.0.0.1"
    port: int = 0
    broke: threading.Event = field(default_factory=threading.Event)  # a fault was used

    def __enter__(self) -> FaultProxy:
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(started,))
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def host(self) -> str:
        return f"{self.address}:{self.port}"

    def count(self, part: str, method: str = "GET") -> int:
        """How many requests had *part* in their target."""
        return sum(part in s.target and s.method == method for s in self.seen)

    def ranges(self) -> list[str]:
        return [s.headers["range"] for s in self.seen if "range" in s.headers]

    def _serve(self, started: threading.Event) -> None:
        async def run() -> None:
            self._stop = asyncio.Event()
            tasks: set[asyncio.Task[None]] = set()

            def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.ensure_future(self._connection(reader, writer))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

            server = await asyncio.start_server(connected, self.address, 0)
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await self._stop.wait()
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(run())
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, headers = await _head(reader)
        method, target, _ = line.split(" ", 2)
        self.seen.append(Seen(method=method, target=target, headers=headers))
        fault = self._fault(method, target)
        if fault.answer:
            await self._invent(fault, writer)
            return
        if target.startswith("http://"):  # we are somebody's forward proxy
            target = "/" + target.split("/", 3)[3]
        if not fault.ranges:
            headers.pop("range", None)
        behind_reader, behind = await asyncio.open_connection("127.0.0.1", self.port_behind)
        try:
            own = {**headers, **self.add, "connection": "close"}
            text = "".join(f"{k}: {v}\r\n" for k, v in own.items())
            behind.write(f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode())
            if length := int(headers.get("content-length", 0)):
                behind.write(await reader.readexactly(length))
            status, answered = await _head(behind_reader)
            text = "".join(f"{k}: {v}\r\n" for k, v in answered.items())
            writer.write(f"{status}\r\n{text}\r\n".encode())
            await self._body(fault, behind_reader, writer)
        finally:
            behind.close()

    def _fault(self, method: str, target: str) -> Fault:
        for fault in self.faults:
            if fault.path in target and fault.method == method and fault.times:
                fault.times -= 1
                self.broke.set()
                return fault
        return Fault(path="")

    async def _invent(self, fault: Fault, writer: asyncio.StreamWriter) -> None:
        writer.write(fault.answer)
        while fault.endless:
            writer.write(bytes(1 << 16))
            await writer.drain()
        await writer.drain()

    async def _body(
        self, fault: Fault, source: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        at = 0
        piece_size = 4096 if fault.slow else 1 << 16
        while piece := await source.read(piece_size):
            if fault.slow:
                await asyncio.sleep(fault.slow)
            if at <= fault.corrupt < at + len(piece):
                index = fault.corrupt - at
                piece = piece[:index] + bytes([piece[index] ^ 0xFF]) + piece[index + 1 :]
            for limit, then in ((fault.cut, self._nothing), (fault.silent, self._wait)):
                if 0 <= limit < at + len(piece):
                    writer.write(piece[: limit - at])
                    await writer.drain()
                    await then()
                    return
            writer.write(piece)
            await writer.drain()
            at += len(piece)

    async def _nothing(self) -> None:
        return

    async def _wait(self) -> None:
        await self._stop.wait()


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """Return the first line and the headers, names in lower case."""
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return first, {name.lower(): value.strip() for name, _, value in pairs}
