"""A person at a terminal: types keys, sees what the screen shows, makes the window larger, and still has a sane terminal afterwards."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from types import TracebackType

from tests.node import PATIENCE

CTRL_C, CTRL_D = b"\x03", b"\x04"
TELLS_SIZES = b"sh -c \"trap 'stty size' WINCH; echo $((40+3))-set; while sleep 0.1; do :; done\"\n"


class Person:
    """`with Person(command) as person`; the command has the terminal as its controlling one."""

    def __init__(self, command: list[str], rows: int = 33, columns: int = 77) -> None:
        self._master, self._slave = os.openpty()
        self.resize(rows, columns)
        self._modes = self._now()
        self.process = subprocess.Popen(
            command, stdin=self._slave, stdout=self._slave, stderr=self._slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 no threads here
        )  # fmt: skip

    def __enter__(self) -> Person:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def _now(self) -> list:
        return termios.tcgetattr(self._slave)

    @property
    def is_raw(self) -> bool:
        return not self._now()[3] & termios.ICANON

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def types(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def sees(self, what: bytes, seconds: float = 30.0) -> bytes:
        """Read until *what* is on the screen; return all that came."""
        said, deadline = b"", time.monotonic() + seconds * PATIENCE
        while what not in said:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._master], [], [], left)
            assert ready, f"{what!r} did not come, but {said!r}"
            said += os.read(self._master, 4096)
        return said

    def signals(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def leaves(self) -> int:
        """Wait for the command's end; return its exit code. The terminal must be as it was before."""
        code = self.process.wait(30 * PATIENCE)
        assert self._now() == self._modes, "the terminal was not given back"
        return code


# -- what a person does in a shell of a container


def finds_size(person: Person, rows: int, columns: int) -> None:
    """The shell's terminal gets the size of ours: it comes beside the keys, and so maybe after them."""
    person.types(
        b"until stty size | grep -qx '%d %d'; do :; done; echo size-$((40+2))\n" % (rows, columns)
    )
    person.sees(b"size-42")


def visits(command: list[str], goodbye: bytes) -> None:
    """A shell that goes with its client, which says so: words are heard, sizes and Ctrl-C, too, and the exit code comes back."""
    with Person(command) as person:
        person.types(b"echo $((40+2))-here\n")
        person.sees(b"42-here")
        resizes_and_interrupts(person)
        person.types(b"exit 4\n")
        person.sees(goodbye)
        assert person.leaves() == 4


def resizes_and_interrupts(person: Person) -> None:
    """A program in the shell hears of a new size; Ctrl-C ends it, and not the shell."""
    person.types(TELLS_SIZES)
    person.sees(b"43-set")
    person.resize(31, 71)
    person.sees(b"31 71")
    person.types(CTRL_C)
    person.sees(b"# ")
