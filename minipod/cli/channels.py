"""The channels of exec and attach on the client's side: three streams of ours over one WebSocket, v5.channel.k8s.io.

One loop with select; the terminal is raw while it runs with a tty, and restored however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import struct
import sys
import termios
import tty as terminal
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import urlencode

from minipod.cli import websocket
from minipod.errors import FailedPrecondition, NotFound, Unavailable
from minipod.streaming.channels import Channel

CHUNK = 32 << 10


def connect(path: str, target: str) -> tuple[socket.socket, bytes]:
    """Connect and shake hands; return the socket and what came behind the answer's head."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
    except OSError as e:
        raise Unavailable("the node is not running", hint="start it: minipod up") from e
    handshake = websocket.Handshake(target, "v5.channel.k8s.io")
    sock.sendall(handshake.request)
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = sock.recv(1 << 16)
        if not chunk:
            break
        head += chunk
    head, _, rest = head.partition(b"\r\n\r\n")
    if not handshake.accepted(head):
        _refused(sock, head, rest)
    return sock, rest


def _refused(sock: socket.socket, head: bytes, rest: bytes) -> None:
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
        raise Unavailable(f"the server refused: {head[:80].decode(errors='replace')}") from None
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
    """Run to the end of the command; return its exit code. *source* is read for its stdin, *out* takes its stdout."""
    sock, rest = connect(path, f"{target}?{urlencode(query)}")
    with contextlib.ExitStack() as stack:
        stack.callback(sock.close)
        if tty:
            stack.enter_context(raw_terminal())
        output = sys.stdout.buffer if out is None else out
        return _Session(sock, source if stdin else -1, output, tty=tty).run(rest)


class _Session:
    def __init__(self, sock: socket.socket, source: int, out: BinaryIO, *, tty: bool) -> None:
        self._sock = sock
        self._source = source
        self._out = out
        self._decoder = websocket.Decoder()
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ, self._from_server)
        self._code: int | None = None
        self._ended = False
        if source >= 0:
            with contextlib.suppress(
                PermissionError
            ):  # a plain file: always readable, epoll refuses it
                self._selector.register(source, selectors.EVENT_READ, self._from_stdin)
            if source not in self._selector.get_map():
                self._copy_file()
        if tty:
            self._watch_size()

    def run(self, rest: bytes) -> int:
        self._messages(rest)
        while not self._ended:
            for key, _ in self._selector.select():
                key.data()
        if self._code is None:
            raise Unavailable("the connection ended before the command did")
        return self._code

    def _send(self, channel: int, payload: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self._sock.sendall(websocket.frame(websocket.BINARY, bytes([channel]) + payload))

    def _from_stdin(self) -> None:
        chunk = os.read(self._source, CHUNK)
        if chunk:
            self._send(Channel.STDIN, chunk)
        else:
            self._selector.unregister(self._source)
            self._send(Channel.CLOSE, bytes([Channel.STDIN]))

    def _copy_file(self) -> None:
        while chunk := os.read(self._source, CHUNK):
            self._send(Channel.STDIN, chunk)
        self._send(Channel.CLOSE, bytes([Channel.STDIN]))

    def _watch_size(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGWINCH, lambda *_: None)
        signal.set_wakeup_fd(writer)

        def resized() -> None:
            os.read(reader, 64)
            self._resize()

        self._selector.register(reader, selectors.EVENT_READ, resized)
        self._resize()

    def _resize(self) -> None:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))
        self._send(Channel.RESIZE, json.dumps({"Width": columns, "Height": rows}).encode())

    def _from_server(self) -> None:
        data = self._sock.recv(1 << 18)
        if data:
            self._messages(data)
        else:
            self._ended = True

    def _messages(self, data: bytes) -> None:
        for opcode, message in self._decoder.feed(data):
            if opcode == websocket.PING:
                self._sock.sendall(websocket.frame(websocket.PONG, message))
            elif opcode == websocket.CLOSE:
                self._ended = True
            elif message and message[0] in (Channel.STDOUT, Channel.STDERR):
                out = self._out if message[0] == Channel.STDOUT else sys.stderr.buffer
                out.write(message[1:])
                out.flush()
            elif message and message[0] == Channel.ERROR:
                self._end(json.loads(message[1:]))

    def _end(self, status: dict[str, object]) -> None:
        code = exit_code(status)
        if code is None:  # not the command's: it did not run, or was lost
            print(f"error: {status.get('message', '')}", file=sys.stderr)
        self._code = 1 if code is None else code


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


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Pass every key on as it is; give the terminal back afterwards."""
    before = termios.tcgetattr(0)
    terminal.setraw(0, termios.TCSADRAIN)  # what was typed ahead is for the command
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
