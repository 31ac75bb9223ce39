"""Our own terminal while it is somebody else's: raw, given back however that ends, its size and the news of another one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import termios
import tty
from collections.abc import Iterator
from types import FrameType

FATAL = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
)  # whose default action would not give it back


@contextlib.contextmanager
def raw() -> Iterator[None]:
    """Pass every key on as it is; give the terminal back afterwards."""
    before = termios.tcgetattr(0)
    handlers = {number: signal.signal(number, _leave) for number in FATAL}
    tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is for the command
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # it has hung up
            termios.tcsetattr(0, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def size() -> tuple[int, int]:
    """Return (rows, columns)."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))
    return rows, columns


@contextlib.contextmanager
def size_changes() -> Iterator[int]:
    """Yield a descriptor that becomes readable with every SIGWINCH."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    handler = signal.signal(signal.SIGWINCH, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGWINCH, handler)
        os.close(reader)
        os.close(writer)
