"""A service that is told to end while it is being born ends: its parent's handlers are not its own."""

from __future__ import annotations

import os
import signal
import socket

from minipod.linux import process
from minipod.supervisor import services


def test_an_order_to_end_at_birth_is_heard() -> None:
    """Under load the order came before the child had run at all; a handler of the parent's took it, and the child stayed."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # as the supervisor's
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    woken = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        for _ in range(30):
            pid = services.fork_service("t", "time:sleep", 3600)
            os.kill(pid, signal.SIGTERM)
            pidfd = process.pidfd_open(pid)
            ended = process.await_end(pidfd, 30)
            process.kill(pidfd, 5)
            os.close(pidfd)
            assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
            assert ended
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    finally:
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGTERM, before)
        reader.close()
        writer.close()
