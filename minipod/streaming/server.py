"""HTTP requests that become streams: which protocol is spoken, and then exec, attach or port-forward over it.

    Upgrade: websocket   Sec-WebSocket-Protocol names what the client speaks
    Upgrade: SPDY/3.1    X-Stream-Protocol-Version names it, one header each or a list

What can't be negotiated is an error before the upgrade: FailedPrecondition (400) or Forbidden (403), as in Kubernetes.
Source: apimachinery httpstream, apiserver wsstream, kubelet cri/streaming.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aiohttp import web

from minipod.errors import FailedPrecondition, Forbidden
from minipod.runtime.service import ExecSession
from minipod.streaming import portforward
from minipod.streaming.carriers import MESSAGE_MAX, Channels, Messages, Upgraded
from minipod.streaming.channels import REMOTE_COMMAND
from minipod.streaming.presence import Presence
from minipod.streaming.remotecommand import LINGER, Sessions, Wanted, run
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
        socket, name = await _negotiated(request, [p.name for p in REMOTE_COMMAND if p.name])
        channels = Channels(request, socket, name)
        await run(WebSocketRemote(channels), sessions, start, wanted, presence)
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
        socket, _ = await _negotiated(request, [portforward.TUNNEL])
        await socket.prepare(request)
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
    socket, name = await _negotiated(request, numbered.PROTOCOLS, needed=True)
    channels = Channels(request, socket, name)
    await channels.open()
    await numbered.PortForwardChannels(channels, connect, ports).run(Presence(request))
    return socket


async def _negotiated(
    request: web.Request, known: Sequence[str], *, needed: bool = False
) -> tuple[web.WebSocketResponse, str | None]:
    """Return what can answer, and what is spoken then. Raises HTTPBadRequest for a handshake that is none."""
    offered = _listed(request, "Sec-WebSocket-Protocol")
    if (offered or needed) and not set(offered) & set(known):
        raise Forbidden(
            f"requested protocol(s) are not supported: [{' '.join(offered)}]; supports [{' '.join(known)}]"
        )
    socket = web.WebSocketResponse(
        protocols=known, max_msg_size=MESSAGE_MAX, compress=False, timeout=LINGER, autoping=False
    )
    if not _is_handshake(request):
        await socket.prepare(request)  # raises what it is
    read = request.headers.get("Sec-WebSocket-Protocol", "").split(",")  # by aiohttp: one line
    return socket, next((name for name in map(str.strip, read) if name in known), None)


def _is_handshake(request: web.Request) -> bool:
    """Whether aiohttp will accept it; its own `can_prepare` makes the whole answer to find out, in the way of who waits for a command."""
    headers = request.headers
    try:
        key = base64.b64decode(headers.get("Sec-WebSocket-Key", ""))
    except ValueError:
        return False
    return len(key) == 16 and headers.get("Sec-WebSocket-Version") in ("13", "8", "7")


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
