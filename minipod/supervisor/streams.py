"""The containers' standard streams: FIFOs, their idle read ends, and the hand-over to the log pump.

The container holds its FIFOs read-write (it never gets SIGPIPE), the pump reads them, and the supervisor keeps one idle read end
of each until the pump says that the log is drained: without it, what is buffered is lost when the container exits while
the pump is dead. Of a container with a tty the supervisor keeps the pty's master instead.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

FIFOS = ("stdout", "stderr")


@dataclass(slots=True, kw_only=True)
class Streams:
    """What the supervisor holds for one container until its log is drained."""

    directory: str
    log_path: str
    tty: bool
    stdin: bool
    readers: list[int] = field(default_factory=list)  # idle read ends, or [master]
    stdin_writer: int = -1

    def make(self) -> None:
        """Make the FIFOs, before the container's set-up opens them."""
        if self.tty:
            return
        for name in (*FIFOS, "stdin") if self.stdin else FIFOS:
            os.mkfifo(f"{self.directory}/{name}", 0o600)
        self.open()

    def open(self) -> None:
        """Open the idle read ends (and the write end of stdin, which only an fd keeps alive, unless it was closed for good).

        Raises OSError: `close` what was opened before.
        """
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        for name in FIFOS:
            self.readers.append(os.open(f"{self.directory}/{name}", flags))
        path = f"{self.directory}/stdin"
        if self.stdin and os.path.exists(path):
            # Read-write: a write-only open fails with ENXIO until the container has opened it.
            self.stdin_writer = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def for_the_pump(self) -> list[int]:
        """What the pump gets copies of."""
        return self.readers + ([self.stdin_writer] if self.stdin_writer >= 0 else [])

    def close_stdin(self) -> None:
        """Let the container read the end of its stdin, now and after an adoption. Idempotent."""
        if self.stdin_writer >= 0:
            os.unlink(f"{self.directory}/stdin")
            os.close(self.stdin_writer)
            self.stdin_writer = -1

    def set_console(self, master: int) -> None:
        """Keep the pty's master: with its last descriptor the container would get SIGHUP."""
        self.readers = [master]

    def close(self) -> None:
        """Let everything go. Idempotent."""
        for fd in self.readers:
            os.close(fd)
        self.readers = []
        if self.stdin_writer >= 0:
            os.close(self.stdin_writer)
            self.stdin_writer = -1
