"""tcpSocket: dial within the time limit, close (K8S pkg/probe/tcp/tcp.go)."""

from __future__ import annotations

from minipod.kubelet.probe.flight import Deadline, drive
from minipod.kubelet.probe.sockets import DialError, dial, hang_up, join_host_port, resolve
from minipod.kubelet.probe.targets import Attempt, TcpSocket
from minipod.kubelet.rules.probe import Outcome

_OPEN = Attempt(outcome=Outcome.SUCCESS)


async def ask(address: str, port: int) -> Attempt:
    """A flight: success is an established connection, everything else a failure."""
    try:
        hang_up(await dial(address, port))
    except DialError as error:
        return Attempt(outcome=Outcome.FAILURE, output=str(error))
    except Deadline:
        text = f"dial tcp {join_host_port(address, port)}: i/o timeout"
        return Attempt(outcome=Outcome.FAILURE, output=text)
    return _OPEN


async def probe(handler: TcpSocket, time_limit: float) -> Attempt:
    """The same for a caller inside asyncio, a lifecycle hook; *time_limit* in seconds."""
    try:
        address = await resolve(handler.host)
    except DialError as error:
        return Attempt(outcome=Outcome.FAILURE, output=str(error))
    return await drive(ask(address, handler.port), time_limit)
