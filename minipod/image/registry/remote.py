"""A registry's endpoint: the requests of the distribution specification, each with its authorization.

Knows URLs, statuses and headers; which endpoint is asked, and when again, is `pull`'s.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from minipod.image.content import SMALL_MAX, digest_of
from minipod.image.reference import Reference
from minipod.image.registry.auth import Authorizer
from minipod.image.registry.hosts import Endpoint
from minipod.image.registry.http import Http, RequestFailed, retrying
from minipod.image.registry.index import ACCEPT
from minipod.image.registry.source import Fetched, Part
from minipod.spec.registry import ANONYMOUS, AuthConfig

if TYPE_CHECKING:
    import aiohttp

DIGEST_HEADER = "Docker-Content-Digest"
_DIGEST = re.compile("sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")


class Remote:
    """A `Source`, and the way of a push."""

    def __init__(self, http: Http, endpoint: Endpoint, auth: AuthConfig, scope: str) -> None:
        self.name = urlsplit(endpoint.base).netloc
        self.resolves = "resolve" in endpoint.capabilities
        self.is_server = endpoint.is_server
        self.http = http
        self._endpoint = endpoint
        self._authorizer = Authorizer(
            http, endpoint, auth if endpoint.is_server else ANONYMOUS, scope
        )

    def url(self, path: str, **query: str) -> str:
        """Return the URL of *path* below the API's root."""
        if self._endpoint.namespace:
            query["ns"] = self._endpoint.namespace
        pairs = "&".join(f"{key}={quote(value, safe='/:')}" for key, value in query.items())
        return f"{self._endpoint.base}/{path}" + (f"?{pairs}" if pairs else "")

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Callable[[], Any] | None = None,
        ok: tuple[int, ...] = (200,),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer when its status is one of *ok*; a 401 is answered once. Raises RequestFailed.

        *data* makes the body, for each attempt anew.
        """
        # An upload may be sent to another host: it gets the bytes, not the credentials.
        foreign = urlsplit(url).netloc != self.name
        for last in (False, True):
            header = "" if foreign else await self._authorizer.header()
            own = {**(headers or {}), **({"Authorization": header} if header else {})}
            body = data() if data is not None else None
            async with self.http.send(
                method, url, endpoint=self._endpoint, headers=own, data=body
            ) as answer:
                if answer.status in ok:
                    yield answer
                    return
                failed = await self.http.refusal(answer)
                if answer.url.origin() != type(answer.url)(url).origin():
                    # A challenge of where we were redirected to: it could name a token server of its own (CVE-2020-15157).
                    failed = _named(failed)
                    failed.message = f"{answer.url.authority}: {failed.message}"
                    raise failed
                asked = answer.status == 401 and not (last or foreign)
                if not asked or not await self._authorizer.answer(answer, header):
                    raise _named(failed)

    async def digest(self, image: Reference, attempts: int) -> str:
        async def ask() -> str:
            url = self.url(f"{image.path}/manifests/{image.tag}")
            headers = {"Accept": ACCEPT}
            async with self.request("HEAD", url, headers=headers) as answer:
                return answer.headers.get(DIGEST_HEADER, "")

        try:
            found = await retrying(ask, attempts)
            return found if _DIGEST.fullmatch(found) else ""
        except RequestFailed as e:
            if e.status in (400, 405):  # an old registry or proxy without HEAD
                return ""
            raise

    async def manifest(self, image: Reference, digest: str, attempts: int) -> Fetched:
        async def ask() -> Fetched:
            url = self.url(f"{image.path}/manifests/{digest or image.tag}")
            async with self.request("GET", url, headers={"Accept": ACCEPT}) as answer:
                body = await self.http.read(answer, SMALL_MAX)
                said = answer.headers.get(DIGEST_HEADER, "")
                media_type = answer.headers.get("Content-Type", "")
            wanted = digest or said
            algorithm = wanted.partition(":")[0]
            if _DIGEST.fullmatch(wanted):
                found = f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"
                if found != wanted:
                    why = f"manifest has digest {found}, expected {wanted}"
                    raise RequestFailed(why, status=200, passing=True)
            return Fetched(body=body, media_type=media_type, digest=digest_of(body))

        return await retrying(ask, attempts)

    @contextlib.asynccontextmanager
    async def blob(self, image: Reference, digest: str, offset: int) -> AsyncIterator[Part]:
        url = self.url(f"{image.path}/blobs/{digest}")
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self.request("GET", url, headers=headers, ok=(200, 206)) as answer:
            begin = 0
            if answer.status == 206:
                begin = offset
                _check_range(answer.headers.get("Content-Range", ""), offset)
            yield Part(offset=begin, chunks=answer.content.iter_any())


def _check_range(header: str, offset: int) -> None:
    if not header.startswith(f"bytes {offset}-"):
        raise RequestFailed(f"asked for bytes from {offset} on, got {header!r}", status=206)


def _named(failed: RequestFailed) -> RequestFailed:
    """Say what a status means to the person who reads it."""
    known = {401: "authorization failed", 403: "denied", 404: "not found"}
    word = known.get(failed.status, "")
    if failed.message.startswith(str(failed.status)):  # no more than the status line
        failed.message = word or failed.message
    elif word not in failed.message:
        failed.message = f"{word}: {failed.message}"
    if failed.status == 401:
        failed.hint = "check user name and password: imagePullSecrets, or docker login"
    return failed
