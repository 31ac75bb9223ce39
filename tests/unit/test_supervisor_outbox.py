"""Messages for a process that does not read for a while: all of them arrive, in order, with what they carry."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from minipod.supervisor import protocol
from minipod.supervisor.outbox import Outbox

COUNT = 1000  # a socket takes less than 300


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.settimeout(0)
    with ours, theirs:
        yield ours, theirs


def heard(sock: socket.socket) -> list[int]:
    """Read what is there; return the numbers, and check what came with each."""
    found = []
    while True:
        try:
            message, fds = protocol.receive(sock)
        except BlockingIOError:
            return found
        assert message is not None
        assert os.read(fds[0], 10) == b"."
        for fd in fds:
            os.close(fd)
        found.append(message["n"])


def test_what_a_full_socket_does_not_take_is_sent_when_it_is_read(pair) -> None:
    ours, theirs = pair
    asked: list[bool] = []
    outbox = Outbox(ours, asked.append)
    before = len(os.listdir("/proc/self/fd"))
    for n in range(COUNT):
        reader, writer = os.pipe()
        os.write(writer, b".")
        outbox.send({"n": n}, [reader])
        os.close(reader)  # the caller's is his own
        os.close(writer)
    assert asked == [True]
    found = heard(theirs)
    assert 0 < len(found) < COUNT
    while len(found) < COUNT:
        outbox.flush()
        found += heard(theirs)
    assert found == list(range(COUNT))
    assert asked == [True, False]
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_nobody_reads_any_more_is_let_go(pair) -> None:
    ours, theirs = pair
    outbox = Outbox(ours, lambda _: None)
    null = os.open(os.devnull, os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    for n in range(COUNT):
        outbox.send({"n": n}, [null])
    outbox.close()
    assert len(os.listdir("/proc/self/fd")) == before
    theirs.close()
    outbox.send({"n": 0}, [null])  # no error
    os.close(null)
