"""Requests to registries: one session, TLS by endpoint, redirects by hand, proxies of the environment, retries.

Redirects are followed here and not by aiohttp: another host gets neither the Authorization nor the TLS
settings nor the extra headers of the endpoint. A location is taken as it is (presigned URLs break when they
are quoted again), bodies are never decompressed (a layer *is* gzip), there are no cookies, and no ~/.netrc
is read, which aiohttp's trust_env would do.

Retried: lost and refused connections, silence, 408, 429 and 5xx, with a doubling delay or the server's Retry-After.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from minipod.errors import ImageError
from minipod.image.registry.hosts import Endpoint, Tls
from minipod.image.registry.proxy import proxy_for

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

T = TypeVar("T")

ATTEMPTS = 5
FIRST_DELAY = 0.2  # seconds, doubled each time
MAX_DELAY = 30.0  # seconds, of a Retry-After too
MAX_REDIRECTS = 10
CONNECT_TIMEOUT = 20.0  # seconds
SILENCE = 30.0  # seconds without a byte
MAX_ERROR_BODY = 64 << 10  # bytes
READ_BUFFER = 1 << 20  # bytes that aiohttp holds before it stops reading
MAX_HEADER = 32 << 10  # bytes: locations of object stores are long
USER_AGENT = "minipod"
REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 429, 500, 502, 503, 504)  # statuses that may be better in a second


class RequestFailed(ImageError):
    """A request got no good answer: *status* is HTTP's, 0 when there was none; *passing*: try again."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        passing: bool = False,
        retry_after: float = 0.0,
        hint: str = "",
    ) -> None:
        super().__init__(message, reason="ErrImagePull", hint=hint)
        self.status = status
        self.passing = passing
        self.retry_after = retry_after

    @property
    def answered(self) -> bool:
        """Whether this is a registry's word; 400 is what a server with TLS says to a request without."""
        return self.status not in (0, 400)


async def retrying(attempt: Callable[[], Awaitable[T]], attempts: int = ATTEMPTS) -> T:
    """Call *attempt* until it works, fails for good, or has failed *attempts* times."""
    for count in range(1, attempts + 1):
        try:
            return await attempt()
        except RequestFailed as e:
            if not e.passing or count == attempts:
                raise
            await asyncio.sleep(delay(count, e.retry_after))
    raise AssertionError  # attempts is at least 1


def delay(failures: int, retry_after: float = 0.0) -> float:
    """Return the seconds to wait after so many failures in a row."""
    backoff = FIRST_DELAY * 2 ** (failures - 1) * random.uniform(0.75, 1.25)  # noqa: S311 no secret
    return float(min(MAX_DELAY, max(backoff, retry_after)))


class Http:
    """The session of one pull or push; an async context manager."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[Tls, ssl.SSLContext] = {}

    async def __aenter__(self) -> Http:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp  # 170 ms, only when there is something to ask

            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=CONNECT_TIMEOUT, sock_read=SILENCE
                ),
                read_bufsize=READ_BUFFER,
                max_line_size=MAX_HEADER,
                max_field_size=MAX_HEADER,
            )
        return self._session

    @contextlib.asynccontextmanager
    async def send(
        self,
        method: str,
        url: str,
        *,
        endpoint: Endpoint | None = None,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer, redirects followed, whatever its status. Raises RequestFailed without one.

        *endpoint* gives TLS settings and headers; they hold for its own origin only.
        """
        import aiohttp
        from yarl import URL

        try:
            async with self._follow(
                method, URL(url, encoded=True), endpoint, headers, data
            ) as answer:
                yield answer
        except (aiohttp.ClientError, ValueError, TimeoutError, ssl.SSLError, OSError) as e:
            raise _failed(e, url) from e

    @contextlib.asynccontextmanager
    async def _follow(
        self,
        method: str,
        url: URL,
        endpoint: Endpoint | None,
        headers: Mapping[str, str] | None,
        data: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        origin, own = url.origin(), {**(endpoint.headers if endpoint else {}), **(headers or {})}
        tls = endpoint.tls if endpoint is not None else Tls()
        session = self._open_session()
        for _ in range(MAX_REDIRECTS + 1):
            answer = await session.request(
                method,
                url,
                headers=own,
                data=data,
                allow_redirects=False,
                proxy=proxy_for(str(url)),
                # 20 ms to read the system's authorities, for who needs them
                ssl=await self._context(tls) if url.scheme == "https" else True,
            )
            async with answer:
                target = answer.headers.get("Location")
                if answer.status not in REDIRECTS or not target or data is not None:
                    yield answer
                    return
            url = url.join(type(url)(target, encoded=True))
            if url.scheme not in ("http", "https"):
                why = f"redirected to {url.scheme}:, which is not followed"
                raise RequestFailed(why, status=answer.status)
            if url.origin() != origin:
                own, tls = _for_others(headers or {}), Tls()
        raise RequestFailed(f"stopped after {MAX_REDIRECTS} redirects", status=302)

    async def _context(self, tls: Tls) -> ssl.SSLContext:
        if tls not in self._contexts:
            self._contexts[tls] = await asyncio.to_thread(_ssl_context, tls)
        return self._contexts[tls]

    async def read(self, answer: aiohttp.ClientResponse, limit: int) -> bytes:
        """Return a small body. Raises RequestFailed when it is larger than *limit* bytes."""
        parts, size = [], 0
        async for part in answer.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > limit:
                why = f"answer is larger than {limit} bytes"
                raise RequestFailed(why, status=answer.status)
        return b"".join(parts)

    async def refusal(self, answer: aiohttp.ClientResponse) -> RequestFailed:
        """Return the error for an answer with a bad status, in the registry's own words."""
        try:
            body = await self.read(answer, MAX_ERROR_BODY)
        except RequestFailed:
            body = b""
        words = _words(body) or f"{answer.status} {answer.reason or ''}".strip().lower()
        return RequestFailed(
            words,
            status=answer.status,
            passing=answer.status in _PASSING,
            retry_after=retry_after(answer.headers.get("Retry-After", ""), time.time()),
        )


def retry_after(header: str, now: float) -> float:
    """Return the seconds that Retry-After asks for: a number or a date (RFC 9110, 10.2.3); 0 for anything else."""
    if header.isdigit():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def _for_others(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what another origin may see: nothing that authorizes."""
    return {k: v for k, v in headers.items() if k.lower() not in ("authorization", "cookie")}


def _words(body: bytes) -> str:
    """Return the messages of a registry's error answer (distribution-spec: Error Codes)."""
    try:
        listed = json.loads(body)["errors"]
        found = [f"{e['code'].lower()}: {e.get('message') or ''}".rstrip(": ") for e in listed]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    text = "; ".join(found)[:500]
    return "".join(c if c.isprintable() else "?" for c in text)  # it is for a terminal


def _ssl_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        for path in tls.authorities:
            context.load_verify_locations(path)
        if tls.client:
            context.load_cert_chain(*tls.client)
    except (OSError, ssl.SSLError) as e:
        names = ", ".join((*tls.authorities, *tls.client))
        raise ImageError(f"can't use {names}: {e}", reason="ErrImagePull") from e
    if tls.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _failed(error: Exception, url: str) -> RequestFailed:
    """Turn what aiohttp raises into our error: what is worth another attempt, and what to do about it."""
    import aiohttp

    host = urlsplit(url).netloc
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        inner = getattr(error, "certificate_error", error)
        return RequestFailed(
            f"{host}: tls: failed to verify certificate: {getattr(inner, 'verify_message', inner)}",
            hint=f"name the authority's file in registries/{host}/hosts.toml: ca = ...",
        )
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return RequestFailed(
            f"{host}: tls: {getattr(error, 'strerror', None) or error}",
            hint=f"if it has no TLS, say so in registries/{host}/hosts.toml: server = 'http://{host}'",
        )
    if isinstance(error, aiohttp.ClientPayloadError):
        return RequestFailed(f"{host}: unexpected end of the answer", passing=True)
    if isinstance(error, TimeoutError):
        return RequestFailed(f"{host}: no answer in time", passing=True)
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return RequestFailed(f"{host}: invalid answer: {error}")
    inner = getattr(error, "os_error", error)  # of a connection that was not made
    why = str(inner) or type(error).__name__
    # A positive number is the system's, a negative one getaddrinfo's.
    if isinstance(inner, OSError) and inner.errno:
        why = os.strerror(inner.errno) if inner.errno > 0 else inner.strerror or why
    unknown = isinstance(inner, socket.gaierror) and inner.errno == socket.EAI_NONAME
    return RequestFailed(f"{host}: {why}".lower(), passing=not unknown)
