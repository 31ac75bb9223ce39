"""When a TCP peer counts as gone: by what the kernel tells of it, and on a real connection whose peer only does not read."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from minipod.linux.tcp import TcpInfo, tcp_info
from minipod.streaming.presence import SILENCE, SILENCE_FULL, is_silent


@pytest.mark.parametrize(
    ("retransmits", "probes", "window", "since", "gone"),
    [
        pytest.param(0, 0, 65536, 10**8, False, id="nothing to say for a day"),
        pytest.param(7, 0, 65536, SILENCE, True, id="data in vain"),
        pytest.param(7, 0, 65536, SILENCE - 1, False, id="data in vain, not long yet"),
        pytest.param(1, 0, 65536, SILENCE, False, id="a packet lost after a long silence"),
        pytest.param(0, 1, 0, 119_000, False, id="a reader that stands still"),
        pytest.param(3, 0, 0, 119_000, False, id="one whose kernel dropped the last packets"),
        pytest.param(0, 9, 0, SILENCE_FULL, True, id="one that stood still, and is gone"),
    ],
)
def test_a_peer_is_gone_when_it_acknowledges_nothing(
    retransmits, probes, window, since, gone
) -> None:
    info = TcpInfo(retransmits=retransmits, probes=probes, last_ack_recv=since, snd_wnd=window)
    assert is_silent(info) is gone


def test_the_kernel_tells_of_a_peer_that_reads_nothing() -> None:
    """Its window closes: a field at the wrong place would not say so."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        with ours, theirs:
            before = tcp_info(ours)
            ours.setblocking(False)
            deadline = time.monotonic() + 10
            while (after := tcp_info(ours)).snd_wnd and time.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    ours.send(bytes(1 << 16))
    assert before.snd_wnd > 1 << 10
    assert after.snd_wnd == 0
    assert after.last_ack_recv < 10_000
