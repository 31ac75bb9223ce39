"""httpGet: one request on a fresh connection, by hand on a raw socket (K8S pkg/probe/http/http.go).

200 <= code < 400 is success. A redirect within the same host name is followed, until ten requests were made; what remains of
3xx (a redirect to another host, one without a place) is a *warning*, which counts as success. At most 10 KiB of the body are
read. TLS is not verified: the kubelet asks whether somebody answers, not who. No proxy, no keep-alive, no compression.
Every error of transport is a failure, in the words of Go's client.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from minipod.kubelet.probe import sockets
from minipod.kubelet.probe.flight import Deadline, drive, readable
from minipod.kubelet.probe.response import BadResponse, Response, parse
from minipod.kubelet.probe.sockets import DialError, ReadError, join_host_port, resolve
from minipod.kubelet.probe.streams import TlsStream, open_tls
from minipod.kubelet.probe.targets import Attempt, HttpGet
from minipod.kubelet.rules.probe import Outcome

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MAX_REQUESTS = 10  # net/http.Client: "stops after 10 consecutive requests"
_TIMEOUT = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
USER_AGENT = "kube-probe/1.20"

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One GET, ready to be sent; *address* is where *host* lives."""

    scheme: str
    host: str
    address: str
    port: int
    path: str
    headers: Headers
    payload: bytes = b""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{join_host_port(self.host, self.port)}{self.path}"


def request(handler: HttpGet, address: str) -> Request:
    """Prepare what *handler* asks for; done once, sent many times."""
    path = handler.path if handler.path.startswith("/") else f"/{handler.path}"
    return _request(
        handler.scheme.lower(), handler.host, address, handler.port, path, handler.headers
    )


def _request(
    scheme: str, host: str, address: str, port: int, path: str, headers: Headers
) -> Request:
    bare = Request(scheme=scheme, host=host, address=address, port=port, path=path, headers=headers)
    payload = request_bytes(bare)
    return Request(
        scheme=scheme,
        host=host,
        address=address,
        port=port,
        path=path,
        headers=headers,
        payload=payload,
    )


async def ask(first: Request) -> Attempt:
    """A flight: ask, follow, judge."""
    at = first
    for _ in range(_MAX_REQUESTS):
        try:
            response = await _get(at)
        except (DialError, ReadError, BadResponse) as error:
            return _failure(at, str(error))
        except Deadline:
            return _failure(at, _TIMEOUT)
        if response.status < 300:
            break
        target = _redirect(at, response) if response.status in _REDIRECTS else None
        if target is None or target.host != first.host:
            break
        at = target
    else:
        return _failure(at, f"stopped after {_MAX_REQUESTS} redirects")
    return _judge(response)


async def probe(handler: HttpGet, time_limit: float) -> Attempt:
    """The same for a caller inside asyncio, a lifecycle hook; *time_limit* in seconds."""
    try:
        at = request(handler, await resolve(handler.host))
    except DialError as error:
        return Attempt(outcome=Outcome.FAILURE, output=str(error))
    return await drive(ask(at), time_limit)


async def _get(at: Request) -> Response:
    if at.scheme == "https":
        return await _get_over_tls(at)
    sock = await sockets.call(at.address, at.port, at.payload)
    try:
        await readable(sock)  # a look would find nothing before the server has had its turn
        received = await sockets.receive(sock)
        while (response := parse(received, ended=False)) is None:
            more = await sockets.receive(sock)
            if not more:
                return _last(received)
            received += more
        return response
    finally:
        sockets.hang_up(sock)


async def _get_over_tls(at: Request) -> Response:
    sock = await sockets.dial(at.address, at.port)
    try:
        return await _exchange(await open_tls(sock, at.host), at.payload)
    finally:
        sockets.hang_up(sock)


async def _exchange(stream: TlsStream, payload: bytes) -> Response:
    await stream.send(payload)
    received = b""
    while more := await stream.receive():
        received += more
        if (response := parse(received, ended=False)) is not None:
            return response
    return _last(received)


def _last(received: bytes) -> Response:
    response = parse(received, ended=True)
    assert response is not None  # at the end it is there or bad
    return response


def _judge(response: Response) -> Attempt:
    body = response.body.decode("utf-8", "replace")
    if 200 <= response.status < 300:
        return Attempt(outcome=Outcome.SUCCESS, output=body)
    if 300 <= response.status < 400:
        text = f"Probe terminated redirects, Response body: {body}"
        return Attempt(outcome=Outcome.WARNING, output=text)
    text = f"HTTP probe failed with statuscode: {response.status}"
    return Attempt(outcome=Outcome.FAILURE, output=text)


def _failure(at: Request, why: str) -> Attempt:
    return Attempt(outcome=Outcome.FAILURE, output=f'Get "{at.url}": {why}')


def _redirect(at: Request, response: Response) -> Request | None:
    """Where the answer points to; a Host header that was given goes along only with a relative one."""
    location = response.header("location")
    if not location:
        return None
    try:
        parts = urlsplit(urljoin(at.url, location))
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = at.headers
    if urlsplit(location).scheme:
        headers = tuple((k, v) for k, v in headers if k.lower() != "host")
    return _request(parts.scheme, parts.hostname, at.address, port, path, headers)


def request_bytes(at: Request) -> bytes:
    """The request: a given header replaces the default one; User-Agent or Accept given empty are left out."""
    given = {name.lower() for name, _ in at.headers}
    default_port = 443 if at.scheme == "https" else 80
    shown = f"[{at.host}]" if ":" in at.host else at.host
    host = shown if at.port == default_port else join_host_port(at.host, at.port)
    lines = [f"GET {at.path} HTTP/1.1"]
    lines += [] if "host" in given else [f"Host: {host}"]
    lines += [] if "user-agent" in given else [f"User-Agent: {USER_AGENT}"]
    lines += [] if "accept" in given else ["Accept: */*"]
    lines += [
        f"{name}: {value}"
        for name, value in at.headers
        if value or name.lower() not in ("user-agent", "accept")
    ]
    lines += ["Connection: close", "", ""]
    return "\r\n".join(lines).encode("utf-8")
