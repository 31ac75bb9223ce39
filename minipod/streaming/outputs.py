"""What a process says, on its way to the client.

Most commands say nothing, or a few words at their end: a task begins only when there is something to be sent while the process runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from minipod.aio.fds import Source

Send = Callable[[bytes], Awaitable[None]]  # raises ConnectionError when the client has gone


class Output:
    """One descriptor. `close` it in any case; the descriptor itself is the caller's."""

    def __init__(self, fd: int, send: Send | None) -> None:
        """None: nobody wants it. It is read all the same, for the process must not block before it is ended."""
        self._fd = fd
        self._send = send
        self._source = Source(fd)
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._readable)

    def _readable(self) -> None:
        chunk = self._source.take()
        if chunk is None:
            return  # another one has read it
        self._loop.remove_reader(self._fd)
        if chunk:
            self._task = self._loop.create_task(self._copy(chunk))
        else:
            self._ended = True

    async def _copy(self, chunk: bytes) -> None:
        while chunk:
            if self._send is not None:
                try:
                    await self._send(chunk)
                except ConnectionError:
                    self._send = None
            chunk = await self._source.read()

    def finish(self) -> None:
        """Only what is buffered is still waited for."""
        self._source.finish()

    async def drained(self) -> None:
        """Return when all of it has been sent."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        elif not self._ended:
            chunk = self._source.take()
            if chunk == b"" or (chunk is None and self._source.is_finishing):
                return  # nothing was left: the reader goes with `close`, when the client has heard of the end
            self._loop.remove_reader(self._fd)
            self._ended = True
            await self._copy(await self._source.read() if chunk is None else chunk)

    async def close(self) -> None:
        """Stop. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        elif not self._ended:
            self._loop.remove_reader(self._fd)
            self._ended = True
