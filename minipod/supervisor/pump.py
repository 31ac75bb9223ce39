"""The log pump: a process that reads the containers' streams and writes CRI log files. Forked by the supervisor.

    supervisor -> pump   {"op": "add", "id", "log"} + [stdout, stderr] or [pty master], and the write end of stdin where there is one:
                         the pump only holds it, so that no container reads the end of its stdin because the supervisor died;
                         "early": true for a new container whose first client of attach is to hear what it said before
                         {"op": "close_stdin", "id"}
                         {"op": "finish", "id"}    it has exited: write what is buffered, answer {"op": "drained", "id"}
                         {"op": "reopen", "id"}    go on in a fresh file
                         {"op": "attach", "id"} + [fd for the verdict, for stdout, for stderr]    a live copy from now on, see `attached`

End of file there means that the supervisor died or went down, and the containers live on: so do we, for their logs, stdins and
terminals, until a new supervisor sends SIGTERM or none of them has anything to say any more. What has been
read is written at once, so kill -9 loses no line but the one in hand. An incomplete line is held until its end comes, for at
most HOLD seconds, then written as a P record. A client of attach that does not read loses its place, never the log its time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import socket
import time
from dataclasses import dataclass, field

from minipod.linux import heap
from minipod.supervisor import protocol
from minipod.supervisor.attached import Attached, Unheard
from minipod.supervisor.logfile import LogFile, format_lines, partial_record, stamp

CHUNK = 64 << 10  # bytes at most for one read: what a FIFO holds
FLOOD = 256 << 10  # the same once a FIFO was found full
PAUSE = 0.001  # seconds between two turns of the loop while streams keep it busy: few large reads cost less than many small ones
HOLD = 0.1  # seconds
HEAP = 2 << 20  # bytes: a few chunks and their records


@dataclass(slots=True, eq=False)
class Stream:
    """One descriptor that is read."""

    owner: Log
    name: bytes
    fd: int
    chunk: int = CHUNK
    rest: bytes = b""
    rest_since: float = 0.0


@dataclass(slots=True, eq=False)
class Log:
    """One container's log file, streams and attached clients."""

    id: str
    file: LogFile
    streams: list[Stream] = field(default_factory=list)
    clients: list[Attached] = field(default_factory=list)
    stdin: int = -1  # a write end, only held
    unheard: Unheard | None = None  # until its first client comes

    def close_stdin(self) -> None:
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1


class Pump:
    """The loop."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._logs: dict[str, Log] = {}
        self._held: set[Stream] = set()
        self._selector = selectors.EpollSelector()
        self._selector.register(control, selectors.EVENT_READ, None)
        self._running = True
        self._alone = False  # no supervisor

    def run(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(writer)
        self._selector.register(reader, selectors.EVENT_READ, "stop")
        turned = 0.0
        while self._running and not (self._alone and self._all_ended()):
            told = False
            for key, events in self._selector.select(self._timeout()):
                if key.fd not in self._selector.get_map():
                    continue  # closed by what came before it
                if isinstance(key.data, Stream):
                    self._read(key.data)
                elif isinstance(key.data, Attached):
                    key.data.ready(key.fd, events)
                elif key.data == "stop":
                    self._running = False
                else:
                    told = True  # no pause: more may wait, and containers with it
                    self._command()
            self._flush_held(time.monotonic() - HOLD)
            if not told and time.monotonic() - turned < PAUSE:
                time.sleep(PAUSE)
            turned = time.monotonic()
        for log in list(self._logs.values()):
            self._drain(log)

    def _timeout(self) -> float | None:
        if not self._held:
            return None
        oldest = min(s.rest_since for s in self._held)
        return max(0.0, oldest + HOLD - time.monotonic())

    # -- commands

    def _command(self) -> None:
        try:
            message, fds = protocol.receive(self._control)
        except BlockingIOError:
            return
        except ConnectionError:
            message, fds = None, []
        if message is None:
            self._selector.unregister(self._control)
            self._alone = True
            return
        getattr(self, f"_on_{message['op']}")(message, fds)

    def _on_add(self, message: protocol.Message, fds: list[int]) -> None:
        log = Log(message["id"], LogFile(message["log"], message.get("limit", 0)))
        self._logs[log.id] = log
        for name, fd in zip((b"stdout", b"stderr"), fds, strict=False):
            os.set_blocking(fd, False)
            stream = Stream(log, name, fd)
            log.streams.append(stream)
            self._selector.register(fd, selectors.EVENT_READ, stream)
        if len(fds) > 2:
            log.stdin = fds[2]
        if message.get("early"):
            log.unheard = Unheard()

    def _on_close_stdin(self, message: protocol.Message, _: list[int]) -> None:
        if (log := self._logs.get(message["id"])) is not None:
            log.close_stdin()

    def _on_finish(self, message: protocol.Message, _: list[int]) -> None:
        log = self._logs.pop(message["id"], None)
        if log is not None:
            self._drain(log)
            for stream in log.streams:
                self._close(stream)
            for client in log.clients:
                client.finish()
            log.close_stdin()
            log.file.close()
        self._tell("drained", message["id"])

    def _tell(self, what: str, container: str) -> None:
        try:
            protocol.send(self._control, {"op": what, "id": container})
        except OSError:
            return  # the supervisor is gone; the next one asks again

    def _on_reopen(self, message: protocol.Message, _: list[int]) -> None:
        if (log := self._logs.get(message["id"])) is not None:
            log.file.reopen()

    def _on_attach(self, message: protocol.Message, fds: list[int]) -> None:
        log = self._logs.get(message["id"])
        pipes = dict(zip((b"stdout", b"stderr"), fds[1:], strict=False))
        client = Attached(self._selector, pipes, fds[0])
        if log is None:
            client.finish()  # it has ended: so does the client's output
        else:
            log.clients.append(client)
            if log.unheard is not None:
                log.unheard.tell(client)
                log.unheard = None

    # -- streams

    def _read(self, stream: Stream) -> bool:
        """Read and write one chunk; False when there was nothing."""
        try:
            chunk = os.read(stream.fd, stream.chunk)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""  # EIO: a pty whose other side is closed
        if not chunk:
            self._selector.unregister(stream.fd)
            return False
        if len(chunk) == CHUNK:
            _widen(stream)
        owner = stream.owner
        records, stream.rest = format_lines(stream.name, stream.rest + chunk, stamp(time.time_ns()))
        if records and owner.file.write(records):
            self._tell("log_full", owner.id)
        self._hold(stream)
        if owner.unheard is not None:
            owner.unheard.keep(stream.name, chunk)
        for client in owner.clients:
            client.give(stream.name, chunk)
        owner.clients = [c for c in owner.clients if c.is_open]
        return True

    def _hold(self, stream: Stream) -> None:
        if stream.rest:
            if stream not in self._held:
                self._held.add(stream)
                stream.rest_since = time.monotonic()
        else:
            self._held.discard(stream)

    def _flush_held(self, before: float) -> None:
        for stream in [s for s in self._held if s.rest_since <= before]:
            self._flush(stream)

    def _flush(self, stream: Stream) -> None:
        if stream.rest:
            now = stamp(time.time_ns())
            stream.owner.file.write(partial_record(stream.name, stream.rest, now))
            stream.rest = b""
        self._held.discard(stream)

    def _drain(self, log: Log) -> None:
        for stream in log.streams:
            while stream.fd >= 0 and self._is_watched(stream) and self._read(stream):
                pass
            self._flush(stream)

    def _is_watched(self, stream: Stream) -> bool:
        return stream.fd in self._selector.get_map()

    def _all_ended(self) -> bool:
        """Whether every stream is at its end: the containers have ended."""
        streams = (s for log in self._logs.values() for s in log.streams)
        return not any(self._is_watched(s) for s in streams)

    def _close(self, stream: Stream) -> None:
        if self._is_watched(stream):
            self._selector.unregister(stream.fd)
        os.close(stream.fd)
        stream.fd = -1


def _widen(stream: Stream) -> None:
    """Let a FIFO that was full hold more."""
    with contextlib.suppress(OSError):  # a terminal; or the user's pipes hold enough already
        stream.chunk = max(CHUNK, fcntl.fcntl(stream.fd, fcntl.F_SETPIPE_SZ, FLOOD))


def main(control_fd: int) -> None:
    """Run the pump on its control socket, until SIGTERM."""
    control = socket.socket(fileno=control_fd)
    control.setblocking(False)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    heap.keep(HEAP)
    Pump(control).run()
