"""Messages between the supervisor and its clients, long ones too. The sockets are real."""

from __future__ import annotations

import fcntl
import os
import socket

import pytest

from minipod.linux import fds
from minipod.supervisor import protocol


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("size", [10, protocol.MESSAGE_MAX, 1 << 20])
def test_a_message_arrives_whole_with_its_descriptors(ends, size: int) -> None:
    """A command line may be longer than a message: execve(2) takes two megabytes."""
    ours, theirs = ends
    reader, writer = os.pipe()
    protocol.send(ours, {"argv": ["x" * size]}, [writer])
    os.close(writer)
    message, received = protocol.receive(theirs)
    assert message == {"argv": ["x" * size]}
    (fd,) = received
    assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.write(fd, b".")
    assert os.read(reader, 2) == b"."
    os.close(fd)
    os.close(reader)


@pytest.mark.parametrize("sealed", [True, False])
def test_nonsense_is_refused_and_leaves_no_descriptor(ends, sealed: bool) -> None:
    """Also a long message that its sender could still change."""
    ours, theirs = ends
    memfd = fds.sealed_memfd("x", b"no json") if sealed else os.memfd_create("x")
    before = os.listdir("/proc/self/fd")
    socket.send_fds(ours, [protocol.LONG], [memfd, memfd])
    with pytest.raises(ValueError, match="JSON|Expecting" if sealed else "not sealed"):
        protocol.receive(theirs)
    ours.send(protocol.LONG)
    with pytest.raises(ValueError, match="without its memfd"):
        protocol.receive(theirs)
    assert os.listdir("/proc/self/fd") == before
    os.close(memfd)
