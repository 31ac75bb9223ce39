"""Answering a registry's 401: basic, or a bearer token from the token server it names.

    GET manifest -> 401, WWW-Authenticate: Bearer realm=..., service=..., scope=...
    GET realm?service=&scope= (with the password, if there is one)   or, with an identity token,
    POST realm grant_type=refresh_token                              -> token, expires_in
    GET manifest, Authorization: Bearer token

A token is kept until it expires; a 401 in spite of a token asks for a fresh one, once. Layers that come
at the same time wait for one token. A registry over TLS must not name a token server without TLS: the
password would go out in clear.
Source: distribution/docs/spec/auth/token.md, oauth.md; RFC 9110, 11.6.1.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from minipod.image.registry.hosts import Endpoint, is_loopback
from minipod.image.registry.http import Http, RequestFailed, retrying
from minipod.spec.registry import AuthConfig

if TYPE_CHECKING:
    import aiohttp

MAX_ANSWER = 1 << 20  # bytes of a token server's answer
DEFAULT_EXPIRY = 60.0  # seconds, where the token server does not say (token.md)
CLIENT_ID = "minipod"
_SCHEME = re.compile(r"[\s,]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s+|(?=,)|$)")
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*,?\s*')


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge of WWW-Authenticate; *scheme* is in lower case."""

    scheme: str
    parameters: dict[str, str]


def challenges(values: Iterable[str]) -> list[Challenge]:
    """Decode WWW-Authenticate headers; one header may hold several challenges."""
    found: list[Challenge] = []
    for value in values:
        position = 0
        while match := _SCHEME.match(value, position):
            position = match.end()
            parameters = {}
            while parameter := _PARAMETER.match(value, position):
                name, quoted, token = parameter.groups()
                parameters[name.lower()] = (
                    token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                )
                position = parameter.end()
            found.append(Challenge(scheme=match[1].lower(), parameters=parameters))
    return found


class Authorizer:
    """The Authorization header for one endpoint and one scope."""

    def __init__(self, http: Http, endpoint: Endpoint, auth: AuthConfig, scope: str) -> None:
        self._http = http
        self._endpoint = endpoint
        self._auth = auth
        self._scope = scope
        self._header = f"Bearer {auth.registry_token}" if auth.registry_token else ""
        self._expires = float("inf")
        self._challenge: Challenge | None = None
        self._lock = asyncio.Lock()

    async def header(self) -> str:
        """Return the header's value, "" before the registry has asked for one."""
        if self._challenge is not None and asyncio.get_running_loop().time() >= self._expires:
            await self._renew(self._header)
        return self._header

    async def answer(self, refused: aiohttp.ClientResponse, sent: str) -> bool:
        """Prepare another header after a 401 to *sent*; False when there is nothing better to send."""
        offered = {c.scheme: c for c in challenges(refused.headers.getall("WWW-Authenticate", []))}
        self._challenge = offered.get("bearer") or offered.get("basic")
        if self._challenge is None or self._auth.registry_token:
            return False
        if self._challenge.scheme == "basic" and (sent or not self._auth.username):
            return False
        await self._renew(sent)
        return True

    async def _renew(self, old: str) -> None:
        async with self._lock:  # over the request: the others want what it brings
            if self._header != old:
                return  # somebody else has renewed it
            challenge = self._challenge
            assert challenge is not None
            if challenge.scheme == "basic":
                self._header = basic(self._auth)
                return
            token, lifetime = await retrying(lambda: self._fetch(challenge))
            self._header = f"Bearer {token}"
            # Renewed a little early, so that it does not expire on its way.
            self._expires = asyncio.get_running_loop().time() + lifetime * 0.9

    async def _fetch(self, challenge: Challenge) -> tuple[str, float]:
        realm = challenge.parameters.get("realm", "")
        self._check_realm(realm)
        query = [("service", s)] if (s := challenge.parameters.get("service")) else []
        scopes = joined([self._scope, *challenge.parameters.get("scope", "").split()])
        query += [("scope", scope) for scope in scopes]
        if self._auth.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": self._auth.identity_token,
                "client_id": CLIENT_ID,
                "scope": " ".join(scopes),
                **dict(query[:1] if query[0][0] == "service" else []),
            }
            return await self._ask("POST", realm, {}, form)
        headers = {"Authorization": basic(self._auth)} if self._auth.username else {}
        joint = "&" if urlsplit(realm).query else "?"
        return await self._ask("GET", f"{realm}{joint}{urlencode(query)}", headers, None)

    def _check_realm(self, realm: str) -> None:
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise RequestFailed(
                f"authorization failed: no token server in the challenge: {realm!r}"
            )
        secret = self._auth.username or self._auth.identity_token
        clear = parts.scheme == "http" and not is_loopback(parts.netloc)
        if secret and clear and self._endpoint.base.startswith("https:"):
            raise RequestFailed(
                f"authorization failed: token server {parts.netloc} has no TLS, its registry has"
            )

    async def _ask(
        self, method: str, url: str, headers: dict[str, str], form: dict[str, str] | None
    ) -> tuple[str, float]:
        # The registry's TLS settings hold for its token server: it mostly has the same authority.
        endpoint = Endpoint(base=self._endpoint.base, tls=self._endpoint.tls)
        async with self._http.send(
            method, url, endpoint=endpoint, headers=headers, data=form
        ) as answer:
            if answer.status != 200:
                failed = await self._http.refusal(answer)
                failed.message = f"authorization failed: {failed.message}"
                raise failed
            return _token(await self._http.read(answer, MAX_ANSWER))


def joined(scopes: Iterable[str]) -> list[str]:
    """Return the scopes with the actions of one resource together: `repository:a/b:pull,push`."""
    found: dict[str, dict[str, None]] = {}
    for scope in scopes:
        resource, _, actions = scope.rpartition(":")
        found.setdefault(resource, {}).update(dict.fromkeys(actions.split(",")))
    return [f"{resource}:{','.join(actions)}" for resource, actions in found.items()]


def _token(body: bytes) -> tuple[str, float]:
    try:
        raw: dict[str, Any] = json.loads(body)
        token = raw.get("token") or raw["access_token"]
        lifetime = float(raw.get("expires_in") or DEFAULT_EXPIRY)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise RequestFailed("authorization failed: the token server gave no token") from e
    if not isinstance(token, str) or not token.isprintable():
        raise RequestFailed("authorization failed: the token server gave no token")
    return token, lifetime


def basic(auth: AuthConfig) -> str:
    """Return the Authorization header of a user name and a password."""
    return "Basic " + base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
