"""httpGet: one request on a fresh connection, by hand on a raw socket (K8S pkg/probe/http/http.go).

200 <= code < 400 is success. A redirect within the same host name is followed (at most ten); one to
another host is a *warning*, which counts as success. At most 10 KiB of the body are read. TLS is
not verified: the kubelet asks whether somebody answers, not who.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

from minipod.kubelet.probe.response import BadResponse, Response, read_response
from minipod.kubelet.probe.sockets import close, describe, dial, join_host_port
from minipod.kubelet.probe.streams import PlainStream, Stream, open_tls
from minipod.kubelet.probe.targets import Attempt, HttpGet
from minipod.kubelet.rules.probe import Outcome

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_MAX_REDIRECTS = 10
_USER_AGENT = "kube-probe/1.20"


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """Where one request goes."""

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{join_host_port(self.host, self.port)}{self.path}"


async def probe(handler: HttpGet, time_limit: float) -> Attempt:
    """Ask; every transport error and timeout is a failure."""
    path = handler.path if handler.path.startswith("/") else f"/{handler.path}"
    url = Url(scheme=handler.scheme.lower(), host=handler.host, port=handler.port, path=path)
    try:
        async with asyncio.timeout(time_limit):
            return await _follow(url, handler.headers)
    except TimeoutError:
        why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        return Attempt(outcome=Outcome.FAILURE, output=f'Get "{url}": {why}')


async def _follow(url: Url, headers: tuple[tuple[str, str], ...]) -> Attempt:
    first = url
    for _ in range(_MAX_REDIRECTS + 1):
        try:
            response = await _get(url, headers)
        except OSError as error:
            where = join_host_port(url.host, url.port)
            why = f"dial tcp {where}: connect: {describe(error)}"
            return Attempt(outcome=Outcome.FAILURE, output=f'Get "{url}": {why}')
        except BadResponse as error:
            return Attempt(outcome=Outcome.FAILURE, output=f'Get "{url}": {error}')
        location = response.header("location")
        if response.status not in _REDIRECTS or not location:
            return _judge(response)
        target = _redirect(url, location)
        if target is None or target.host != first.host:
            text = f"Probe terminated redirects, Response body: {_text(response.body)}"
            return Attempt(outcome=Outcome.WARNING, output=text)
        url = target
    why = f"stopped after {_MAX_REDIRECTS} redirects"
    return Attempt(outcome=Outcome.FAILURE, output=f'Get "{url}": {why}')


def _judge(response: Response) -> Attempt:
    if 200 <= response.status < 400:
        return Attempt(outcome=Outcome.SUCCESS, output=_text(response.body))
    text = f"HTTP probe failed with statuscode: {response.status}"
    return Attempt(outcome=Outcome.FAILURE, output=text)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _redirect(url: Url, location: str) -> Url | None:
    parts = urlsplit(urljoin(str(url), location))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return replace(url, scheme=parts.scheme, host=parts.hostname, port=port, path=path)


async def _get(url: Url, headers: tuple[tuple[str, str], ...]) -> Response:
    sock = await dial(url.host, url.port)
    try:
        name = {k.lower(): v for k, v in headers}.get("host", url.host)
        stream: Stream = await open_tls(sock, name) if url.scheme == "https" else PlainStream(sock)
        await stream.send(request_bytes(url, headers))
        return await read_response(stream)
    finally:
        close(sock)


def request_bytes(url: Url, headers: tuple[tuple[str, str], ...]) -> bytes:
    """The request: a given header replaces the default one; given empty it is left out."""
    given = {name.lower() for name, _ in headers}
    default_port = 443 if url.scheme == "https" else 80
    shown = f"[{url.host}]" if ":" in url.host else url.host
    host = shown if url.port == default_port else join_host_port(url.host, url.port)
    lines = [f"GET {url.path} HTTP/1.1"]
    lines += [] if "host" in given else [f"Host: {host}"]
    lines += [] if "user-agent" in given else [f"User-Agent: {_USER_AGENT}"]
    lines += [] if "accept" in given else ["Accept: */*"]
    lines += [
        f"{name}: {value}"
        for name, value in headers
        if value or name.lower() not in ("user-agent", "accept")
    ]
    lines += ["Connection: close", "", ""]
    return "\r\n".join(lines).encode("utf-8")
