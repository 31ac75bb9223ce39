"""The asyncio side of the supervisor's socket: requests by number, replies in any order, events (and their fds) to one callback.

When the connection breaks, every waiting request fails with Unavailable and `lost` is called once; `connect` may then be
called again. Used by the daemon and by the prober (exec probes).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

from minipod.errors import Unavailable
from minipod.linux import fds as linux_fds
from minipod.spec.codec import dumps
from minipod.supervisor import protocol

Answer = tuple[dict[str, Any], list[int]]


class SupervisorClient:
    """One connection. Received fds belong to the caller."""

    def __init__(
        self,
        path: str,
        *,
        on_event: Callable[[dict[str, Any], list[int]], None] = lambda _event, _fds: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._on_event = on_event
        self._on_lost = on_lost
        self._sock: socket.socket | None = None
        self._n = 0
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._blocked: list[asyncio.Future[None]] = []  # requests that wait for room in the socket

    @property
    def connected(self) -> bool:
        return self._sock is not None

    def connect(self) -> None:
        """Connect, anew where there is a connection. Raises Unavailable when no supervisor listens."""
        self.close()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            sock.connect(self._path)
        except OSError as e:
            sock.close()
            raise Unavailable(
                f"no supervisor at {self._path}: {(e.strerror or '').lower()}", hint="minipod up"
            ) from e
        self._sock = sock
        asyncio.get_running_loop().add_reader(sock, self._readable)

    def close(self) -> None:
        """Drop the connection; what waits fails with Unavailable. Idempotent."""
        if self._sock is None:
            return
        asyncio.get_running_loop().remove_reader(self._sock)
        self._unblock()
        self._sock.close()
        self._sock = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(Unavailable("the supervisor went away"))

    async def request(
        self,
        op: str,
        *,
        bundle: object = None,
        fds: tuple[int, ...] = (),
        given: tuple[int, ...] = (),
        **fields: Any,
    ) -> Answer:
        """Ask, and wait for the answer. *bundle* travels in a sealed memfd before *fds* and *given*, which are closed here once they are
        sent, or can't be. Raises Unavailable, and what is answered."""
        return await (await self.ask(op, bundle=bundle, fds=fds, given=given, **fields))

    async def ask(
        self,
        op: str,
        *,
        bundle: object = None,
        fds: tuple[int, ...] = (),
        given: tuple[int, ...] = (),
        **fields: Any,
    ) -> asyncio.Future[Answer]:
        """Ask as `request` does, and return the answer to come. Raises Unavailable when there is nobody to be asked."""
        if self._sock is None:
            _close(given)
            raise Unavailable("not connected to the supervisor")
        self._n += 1
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[self._n] = future
        memfd = -1 if bundle is None else linux_fds.sealed_memfd(op, dumps(bundle))
        passed = [*([] if bundle is None else [memfd]), *fds, *given]
        try:
            await self._send({"n": self._n, "op": op, **fields}, passed)
        except BaseException:
            self._waiting = {n: f for n, f in self._waiting.items() if f is not future}
            raise
        finally:
            _close(given if memfd < 0 else (memfd, *given))
        return future

    async def _send(self, message: protocol.Message, passed: list[int]) -> None:
        while True:
            if self._sock is None:
                raise Unavailable("the supervisor went away")
            try:
                protocol.send(self._sock, message, passed)
            except BlockingIOError:
                await self._writable()
            except ConnectionError as e:
                raise Unavailable("the supervisor went away") from e
            else:
                return

    async def _writable(self) -> None:
        """Wait for room in the socket, or for the end of the connection."""
        assert self._sock is not None
        loop = asyncio.get_running_loop()
        if not self._blocked:
            loop.add_writer(self._sock, self._unblock)
        self._blocked.append(loop.create_future())
        await self._blocked[-1]

    def _unblock(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().remove_writer(self._sock)
        blocked, self._blocked = self._blocked, []
        for future in blocked:
            if not future.done():
                future.set_result(None)

    def _readable(self) -> None:
        """Take one message: the next one is the next turn's. To look for it would take who waits for this one longer."""
        if self._sock is None:
            return
        try:
            message, received = protocol.receive(self._sock)
        except BlockingIOError:
            return
        except ConnectionError:
            message, received = None, []
        if message is None:
            self.close()
            self._on_lost()
            return
        self._deliver(message, received)

    def _deliver(self, message: protocol.Message, received: list[int]) -> None:
        if "event" in message:
            self._on_event(message, received)
            return
        future = self._waiting.pop(message["n"], None)
        if future is None or future.done():  # its caller was cancelled
            for fd in received:
                os.close(fd)
        elif "error" in message:
            future.set_exception(protocol.error_from_message(message["error"]))
        else:
            future.set_result((message["ok"], received))


def _close(fds: tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
