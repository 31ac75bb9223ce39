"""Ports of this machine for tests: not from bind(0), whose port the kernel gives to the next client or server when it is free again."""

from __future__ import annotations

import itertools
import os
import random
import socket

# Below the ephemeral ports (ip_local_port_range), which clients get, and below the API's of named nodes (`Instance.api_port`).
FIRST, COUNT = 10000, 6000
# Each process begins elsewhere: two that look at the same time must not find the same port.
_offsets = itertools.count(random.Random(os.getpid()).randrange(COUNT))  # noqa: S311 no secret


def free_port() -> int:
    """Return a port that nobody has, on any address, for TCP and for UDP; this process does not get it again soon."""
    for offset in itertools.islice(_offsets, COUNT):
        port = FIRST + offset % COUNT
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET6, kind) as s:  # of both families
                    s.bind(("::", port))
        except OSError:
            continue
        return port
    raise AssertionError("no port is free")
