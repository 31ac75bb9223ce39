"""HTTP requests that become streams: which protocol is spoken, and then exec, attach or port-forward over it.

    Upgrade: websocket   Sec-WebSocket-Protocol names what the client speaks
    Upgrade: SPDY/3.1    X-Stream-Protocol-Version names it, one header each or a list

What can't be negotiated is an error before the upgrade: FailedPrecondition (400) or Forbidden (403), as in Kubernetes.
Source: apimachinery httpstream, apiserver wsstream, kubelet cri/streaming.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aiohttp import web

from minipod.errors import FailedPrecondition, Forbidden
from minipod.runtime.service import ExecSession
from minipod.streaming import portforward
from minipod.streaming.carriers import MESSAGE_MAX, Channels, Messages, Upgraded
from minipod.streaming.channels import REMOTE_COMMAND
from minipod.streaming.presence import Presence
from minipod.streaming.remotecommand import Sessions, Wanted, run
from minipod.streaming.remotes import SPDY_PROTOCOLS, SpdyRemote, WebSocketRemote

VERSIONS: Final = "X-Stream-Protocol-Version"

Start = Callable[[], Awaitable[ExecSession]]


def wanted_streams(query: Mapping[str, str]) -> Wanted:
    """Read which streams a client asks for. Raises FailedPrecondition when it asks for none."""

    def asked(name: str) -> bool:
        return query.get(name) in ("1", "true")

    tty = asked("tty")
    wanted = Wanted(
        stdin=asked("stdin"), stdout=asked("stdout"), stderr=asked("stderr") and not tty, tty=tty
    )
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        raise FailedPrecondition("you must specify at least 1 of stdin, stdout, stderr")
    return wanted


def require_upgrade(request: web.Request) -> str:
    """Return "websocket" or "spdy/3.1". Raises FailedPrecondition for a request that asks for neither."""
    tokens = {t.strip().lower() for t in request.headers.get("Connection", "").split(",")}
    upgrade = request.headers.get("Upgrade", "").lower()
    if "upgrade" not in tokens or upgrade not in ("websocket", "spdy/3.1"):
        raise FailedPrecondition("Upgrade request required")
    return upgrade


async def remote_command(
    request: web.Request, sessions: Sessions, start: Start, wanted: Wanted
) -> web.StreamResponse:
    """Serve one exec or attach to its end."""
    presence = Presence(request)
    if require_upgrade(request) == "websocket":
        socket = await _websocket(request, [p.name for p in REMOTE_COMMAND if p.name])
        channels = Channels(socket)
        websocket = WebSocketRemote(channels)
        await websocket.greet(wanted)
        await run(websocket, sessions, start, wanted, presence)
        await channels.close()
        return socket
    protocol = _spdy_protocol(request, SPDY_PROTOCOLS)
    carrier = await _upgraded(request, protocol)
    try:
        remote = SpdyRemote(carrier, protocol, wanted)
        await remote.accept()
        await run(remote, sessions, start, wanted, presence)
    except (ConnectionError, TimeoutError):
        pass  # a client that opens no streams gets none
    finally:
        carrier.close()
    return carrier.response


async def port_forward(request: web.Request, connect: portforward.Connect) -> web.StreamResponse:
    """Serve one client of port-forward until it goes."""
    if require_upgrade(request) == "websocket":
        if portforward.TUNNEL not in _listed(request, "Sec-WebSocket-Protocol"):
            return await _port_forward_channels(request, connect)
        socket = await _websocket(request, [portforward.TUNNEL])
        await portforward.PortForward(Messages(socket), connect).run(Presence(request))
        await socket.close()
        return socket
    carrier = await _upgraded(request, _spdy_protocol(request, [portforward.PROTOCOL]))
    try:
        await portforward.PortForward(carrier, connect).run(Presence(request))
    finally:
        carrier.close()
    return carrier.response


async def _port_forward_channels(
    request: web.Request, connect: portforward.Connect
) -> web.StreamResponse:
    from minipod.streaming import portforward_channels as numbered  # few clients speak it

    ports = numbered.ports_of(request.query.getall("ports", []))
    socket = await _websocket(request, numbered.PROTOCOLS, needed=True)
    await numbered.PortForwardChannels(Channels(socket), connect, ports).run(Presence(request))
    return socket


async def _websocket(
    request: web.Request, known: Sequence[str], *, needed: bool = False
) -> web.WebSocketResponse:
    offered = _listed(request, "Sec-WebSocket-Protocol")
    if (offered or needed) and not set(offered) & set(known):
        raise Forbidden(
            f"requested protocol(s) are not supported: [{' '.join(offered)}]; supports [{' '.join(known)}]"
        )
    socket = web.WebSocketResponse(protocols=known, max_msg_size=MESSAGE_MAX, compress=False)
    await socket.prepare(request)
    return socket


def _spdy_protocol(request: web.Request, known: Sequence[str]) -> str:
    offered = _listed(request, VERSIONS)
    if not offered:
        raise FailedPrecondition(f"unable to upgrade: {VERSIONS} is required")
    for name in known:
        if name in offered:
            return name
    raise Forbidden(
        f"unable to upgrade: unable to negotiate protocol: client supports [{' '.join(offered)}],"
        f" server accepts [{' '.join(known)}]"
    )


async def _upgraded(request: web.Request, protocol: str) -> Upgraded:
    carrier = Upgraded(request, {"Upgrade": "SPDY/3.1", VERSIONS: protocol})
    await carrier.start()
    return carrier


def _listed(request: web.Request, header: str) -> list[str]:
    return [n.strip() for line in request.headers.getall(header, []) for n in line.split(",")]
