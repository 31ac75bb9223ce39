"""Connections of a unix socket: accepted, and what came with them read, in one turn of the event loop.

asyncio's own server takes four turns and a task for a new connection before it reads. Who talks over a unix socket is on this machine
and has sent its request by then, and most send one only. The transport is what asyncio specifies (`asyncio.Transport`), and no more:
no sendfile, no TLS. Source of the rules for errors and for flow control: asyncio.selector_events.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable
from typing import Final

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024  # connections that wait to be accepted, one each turn (net.core.somaxconn is the kernel's own limit)
CHUNK: Final = 256 << 10  # bytes that are read at once
HIGH: Final = 64 << 10  # bytes that wait for the peer: the protocol is asked to pause
LOW: Final = 16 << 10  # and to go on
RETRY: Final = 1.0  # seconds without accepting anybody when no descriptor or memory is left
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Factory = Callable[[], asyncio.Protocol]


class Listener:
    """A listening socket. Each of its connections gets a protocol from *factory*; `close` leaves them as they are."""

    def __init__(self, path: str, factory: Factory) -> None:
        """Bind to *path*, with the rights that the umask leaves. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._factory = factory
        self._path = path
        self._retry: asyncio.TimerHandle | None = None
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._sock.bind(path)
            self._sock.listen(BACKLOG)
        except OSError:
            self._sock.close()
            raise
        self._begin()

    def _begin(self) -> None:
        self._retry = None
        self._loop.add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        """Take one connection: the next one is the next turn's, for its request is read at once."""
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as e:
            if e.errno not in _EXHAUSTED:
                raise
            logger.error("no connection to %s is accepted for %g s: %s", self._path, RETRY, e)  # noqa: TRY400 who is connected goes on
            self._loop.remove_reader(self._sock)
            self._retry = self._loop.call_later(RETRY, self._begin)
            return
        try:
            sock.setblocking(False)
            LocalTransport(self._loop, sock, self._factory(), self._path).begin()
        except BaseException:
            sock.close()  # else its client would wait for ever
            raise

    def close(self) -> None:
        """Accept nobody any more. Idempotent."""
        if self._retry is not None:
            self._retry.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()


class LocalTransport(asyncio.Transport):
    """One connection; owns its non-blocking socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        path: str,
    ) -> None:
        super().__init__({"socket": sock, "sockname": path, "peername": ""})
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._unsent = bytearray()
        self._limits = (LOW, HIGH)
        self._pushes_back = False  # the protocol was asked to pause
        self._reading = False  # it is registered
        self._paused = False
        self._closing = False
        self._lost = False  # `connection_lost` is called, or will be
        self._half = False  # nothing is written any more: the peer reads an end
        self.set_protocol(protocol)

    def begin(self) -> None:
        """Tell the protocol, and read what is there."""
        self._protocol.connection_made(self)
        self._read()
        self._attend()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    # -- reading

    def is_reading(self) -> bool:
        return not (self._paused or self._closing)

    def pause_reading(self) -> None:
        self._paused = True
        self._attend()

    def resume_reading(self) -> None:
        self._paused = False
        self._attend()

    def _attend(self) -> None:
        """Be called for what comes, or not."""
        wanted = self.is_reading()
        if wanted and not self._reading:
            self._loop.add_reader(self._fd, self._read)
        elif self._reading and not wanted:
            self._loop.remove_reader(self._fd)
        self._reading = wanted

    def _read(self) -> None:
        if not self.is_reading():
            return
        try:
            chunk = self._sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as e:
            self._fail(e)
            return
        protocol = self._protocol
        assert isinstance(protocol, asyncio.Protocol)
        try:
            if chunk:
                protocol.data_received(chunk)
            elif protocol.eof_received():
                self.pause_reading()  # it goes on writing; the end would be read again and again
            else:
                self.close()
        except Exception as e:  # a bug there ends this connection, and no other
            said = {"message": "a protocol fails", "exception": e, "transport": self, "protocol": protocol}  # fmt: skip
            self._loop.call_exception_handler(said)
            self._fail(e)

    # -- writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send now what fits, the rest later. Nothing happens when the connection is lost: the protocol hears of that."""
        if self._half:
            raise RuntimeError("nothing can be written behind the end")
        if self._lost or not data:
            return
        if not self._unsent:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as e:
                self._fail(e)
                return
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
            self._loop.add_writer(self._fd, self._flush)
        self._unsent += data
        self._push_back()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def _flush(self) -> None:
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError as e:
            self._fail(e)
            return
        self._push_back()  # it may write something now
        if self._unsent:
            return
        self._loop.remove_writer(self._fd)
        if self._closing:
            self._lose(None)
        elif self._half:
            self._sock.shutdown(socket.SHUT_WR)

    def _push_back(self) -> None:
        """Ask the protocol to pause, or to go on."""
        low, high = self._limits
        if not self._pushes_back and len(self._unsent) > high:
            self._pushes_back = True
            self._protocol.pause_writing()
        elif self._pushes_back and len(self._unsent) <= low:
            self._pushes_back = False
            self._protocol.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        high = HIGH if high is None and low is None else 4 * (low or 0) if high is None else high
        low = high // 4 if low is None else low
        if not 0 <= low <= high:
            raise ValueError(f"low {low}, high {high}: not 0 <= low <= high")
        self._limits = (low, high)
        self._push_back()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._limits

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._half or self._closing):
            self._half = True
            if not self._unsent:
                self._sock.shutdown(socket.SHUT_WR)

    # -- the end

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Read no more, send what waits, then end. Idempotent."""
        if not self._closing:
            self._closing = True
            self._attend()
            if not self._unsent:
                self._lose(None)

    def abort(self) -> None:
        """End; what waits is not sent. Idempotent."""
        self._fail(None)

    def _fail(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._closing = True
        self._attend()
        if self._unsent:
            self._loop.remove_writer(self._fd)
            self._unsent.clear()
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self._end, error)

    def _end(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()
