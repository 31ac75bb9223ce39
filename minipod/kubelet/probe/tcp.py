"""tcpSocket: dial within the timeout, close (K8S pkg/probe/tcp/tcp.go)."""

from __future__ import annotations

import asyncio

from minipod.kubelet.probe.sockets import close, describe, dial, join_host_port
from minipod.kubelet.probe.targets import Attempt, TcpSocket
from minipod.kubelet.rules.probe import Outcome


async def probe(handler: TcpSocket, time_limit: float) -> Attempt:
    """Success is an established connection; everything else is a failure."""
    where = join_host_port(handler.host, handler.port)
    try:
        async with asyncio.timeout(time_limit):
            close(await dial(handler.host, handler.port))
    except TimeoutError as error:
        # ETIMEDOUT of the kernel is a TimeoutError too; both read as Go's i/o timeout.
        why = "connect: connection timed out" if error.errno else "i/o timeout"
        return Attempt(outcome=Outcome.FAILURE, output=f"dial tcp {where}: {why}")
    except OSError as error:
        return Attempt(
            outcome=Outcome.FAILURE, output=f"dial tcp {where}: connect: {describe(error)}"
        )
    return Attempt(outcome=Outcome.SUCCESS)
