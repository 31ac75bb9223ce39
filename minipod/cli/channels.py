"""The channels of exec and attach on the client's side: three streams of ours over one WebSocket.

v5.channel.k8s.io can tell the end of stdin. Without stdin it is v4, for which the server waits no round trip (see `streaming.remotes`).

One loop that never waits for the server to take something: a command that says much before it reads would wait for us, and we for it.
While the server does not take what we sent, stdin is not read. The terminal is raw meanwhile (`cli.terminal`).
"""

from __future__ import annotations

import _socket
import contextlib
import json
import os
import select
import selectors
import sys
from typing import BinaryIO

from minipod.api import unix_http
from minipod.cli import websocket
from minipod.cli.client import unreachable
from minipod.errors import FailedPrecondition, NotFound, Unavailable
from minipod.streaming.numbers import Channel

CHUNK = 64 << 10
_NORMAL = b"\x03\xe8"  # the status code 1000 (RFC 6455, 7.4.1)


def connect(path: str, target: str, protocol: str) -> tuple[_socket.socket, bytes]:
    """Connect and shake hands; return the socket and what came behind the answer's head."""
    try:
        sock = unix_http.connect(path)
    except OSError as e:
        raise unreachable(path, e) from e
    handshake = websocket.Handshake(target, protocol)
    sock.sendall(handshake.request)
    # recv(2) would also wake up when the server has taken the request (net/unix/af_unix.c, unix_write_space), and take its processor.
    answer = select.poll()
    answer.register(sock, select.POLLIN)
    head = b""
    while b"\r\n\r\n" not in head:
        answer.poll()
        chunk = sock.recv(1 << 16)
        if not chunk:
            break
        head += chunk
    head, _, rest = head.partition(b"\r\n\r\n")
    if not handshake.accepted(head):
        _refused(sock, head, rest)
    return sock, rest


def _refused(sock: _socket.socket, head: bytes, rest: bytes) -> None:
    length = next(
        (
            int(h.split(b":")[1])
            for h in head.split(b"\r\n")
            if h.lower().startswith(b"content-length:")
        ),
        0,
    )
    while len(rest) < length and (chunk := sock.recv(1 << 16)):
        rest += chunk
    try:
        status = json.loads(rest)
    except ValueError:
        line, said = head.partition(b"\r\n")[0], b" ".join(rest.split())[:200]
        raise Unavailable(
            f"the server refused: {line.decode(errors='replace')}: {said.decode(errors='replace')}"
        ) from None
    kind = NotFound if status.get("reason") == "NotFound" else FailedPrecondition
    raise kind(status["message"], hint=(status.get("details") or {}).get("hint", ""))


def run_channels(  # noqa: PLR0913 what is said, and to whom
    path: str,
    target: str,
    query: list[tuple[str, str]],
    *,
    stdin: bool,
    tty: bool,
    source: int = 0,
    out: BinaryIO | None = None,
) -> int:
    """Run to the end of the command; return its exit code. *source* is read for its stdin, *out* takes its stdout.

    Raises FailedPrecondition when it did not run, or not to its end.
    """
    protocol = "v5.channel.k8s.io" if stdin else "v4.channel.k8s.io"
    sock, rest = connect(path, f"{target}?{unix_http.encode_query(query)}", protocol)
    with contextlib.ExitStack() as stack:
        stack.callback(sock.close)
        session = _Session(sock, source if stdin else -1, sys.stdout.buffer if out is None else out)
        if tty:
            from minipod.cli import terminal  # with termios and signal, which few have a use for

            stack.enter_context(terminal.raw())
            session.watch_size(stack.enter_context(terminal.size_changes()))
        return session.run(rest)


class _Session:
    """*source*: what is read for the command's stdin, -1 for nothing; *out* takes its stdout."""

    def __init__(self, sock: _socket.socket, source: int, out: BinaryIO) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._source = source
        self._out = out
        self._decoder = websocket.Decoder()
        self._unsent = bytearray()
        self._selector = selectors.PollSelector()  # poll(2), unlike epoll(7), takes plain files
        self._selector.register(sock, selectors.EVENT_READ, self._from_server)
        self._code: int | None = None
        self._failure = ""  # why there is none
        self._ended = False

    def watch_size(self, changes: int) -> None:
        """Tell the command our terminal's size, and each new one of which *changes* brings news."""
        from minipod.cli import terminal

        def resized(_: int = 0) -> None:
            rows, columns = terminal.size()
            self._send(Channel.RESIZE, json.dumps({"Width": columns, "Height": rows}).encode())

        def read(_: int) -> None:
            os.read(changes, 64)
            resized()

        self._selector.register(changes, selectors.EVENT_READ, read)
        resized()

    def run(self, rest: bytes) -> int:
        """Return the command's exit code. *rest* is what the server has sent already. Raises FailedPrecondition, Unavailable."""
        self._messages(rest)
        while not self._ended:
            self._choose()
            for key, events in self._selector.select():
                key.data(events)
        if self._failure:
            raise FailedPrecondition(self._failure)
        if self._code is None:
            raise Unavailable("the connection ended before the command did")
        return self._code

    def _choose(self) -> None:
        """Wait for the server to take what is unsent, or else for stdin."""
        waiting = bool(self._unsent)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if waiting else 0)
        if self._selector.get_key(self._sock).events != events:
            self._selector.modify(self._sock, events, self._from_server)
        if self._source >= 0:
            watched = self._source in self._selector.get_map()
            if watched and waiting:
                self._selector.unregister(self._source)
            elif not watched and not waiting:
                self._selector.register(self._source, selectors.EVENT_READ, self._from_stdin)

    def _send(self, channel: int, payload: bytes) -> None:
        self._frame(websocket.BINARY, bytes([channel]) + payload)

    def _frame(self, opcode: int, payload: bytes) -> None:
        self._unsent += websocket.frame(opcode, payload)
        self._flush()

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        except ConnectionError:  # what it had said before is still to be read
            sent = len(self._unsent)
        del self._unsent[:sent]

    def _from_stdin(self, _: int) -> None:
        try:
            chunk = os.read(self._source, CHUNK)
        except OSError:
            chunk = b""  # EIO: the terminal has hung up
        if chunk:
            self._send(Channel.STDIN, chunk)
        else:
            self._selector.unregister(self._source)
            self._source = -1
            self._send(Channel.CLOSE, bytes([Channel.STDIN]))

    def _from_server(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if not events & selectors.EVENT_READ:
            return
        try:
            data = self._sock.recv(CHUNK)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if data:
            self._messages(data)
        else:
            self._ended = True

    def _messages(self, data: bytes) -> None:
        for opcode, message in self._decoder.feed(data):
            if opcode == websocket.PING:
                self._frame(websocket.PONG, message)
            elif opcode == websocket.CLOSE:
                self._ended = True
            elif message and message[0] in (Channel.STDOUT, Channel.STDERR):
                out = self._out if message[0] == Channel.STDOUT else sys.stderr.buffer
                out.write(message[1:])
                out.flush()
            elif message and message[0] == Channel.ERROR:
                self._end(json.loads(message[1:]))

    def _end(self, status: dict[str, object]) -> None:
        """Go: the status comes behind all output."""
        self._code = exit_code(status)
        if self._code is None:  # it did not run, or was lost
            self._failure = str(status.get("message", ""))
        self._ended = True
        self._frame(websocket.CLOSE, _NORMAL)


def exit_code(status: dict[str, object]) -> int | None:
    """Return the exit code that a Status of the error channel tells; None when it tells of another failure."""
    if status.get("status") == "Success":
        return 0
    details = status.get("details")
    causes = details.get("causes", []) if isinstance(details, dict) else []
    for cause in causes:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    return None
