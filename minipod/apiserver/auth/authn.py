"""Who sends a request: the unix socket is root's, then a client certificate (CN is the name, each O a group), then a bearer token.

Credentials that are shown and wrong are refused, also where nobody needs any. What a connection shows once holds for all of
its requests: the certificate is read once for each.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from minipod.apiserver.auth.tokens import Tokens
from minipod.apiserver.auth.user import AUTHENTICATED, NOBODY, ROOT, UserInfo
from minipod.errors import Unauthorized

if TYPE_CHECKING:
    from aiohttp import web


class Authenticator:
    """See the module."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._certified: WeakKeyDictionary[asyncio.BaseTransport, UserInfo] = WeakKeyDictionary()

    async def authenticate(self, request: web.Request) -> UserInfo:
        """Return the user, NOBODY for a request without credentials. Raises Unauthorized."""
        transport = request.transport
        if transport is None:
            raise Unauthorized("the connection is closed")
        if transport.get_extra_info("socket").family == socket.AF_UNIX:
            return ROOT
        if (user := self._certified.get(transport)) is not None:
            return user
        tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if tls is not None and (certificate := tls.getpeercert()):
            return self._certified.setdefault(transport, certified(certificate))
        if "Authorization" in request.headers:
            return await self._bearer(request.headers["Authorization"])
        return NOBODY

    async def _bearer(self, header: str) -> UserInfo:
        scheme, _, text = header.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("Unauthorized")
        user, _audiences = await self._tokens.authenticate(text.strip())
        return user


def certified(certificate: Any) -> UserInfo:
    """Return the user of a client certificate, in the form of `SSLObject.getpeercert`. Raises Unauthorized without a CN."""
    fields = [pair for group in certificate.get("subject", ()) for pair in group]
    names = [value for key, value in fields if key == "commonName"]
    if not names:
        raise Unauthorized("the client certificate has no common name")
    groups = [value for key, value in fields if key == "organizationName"]
    return UserInfo(name=names[0], groups=(*groups, AUTHENTICATED))
