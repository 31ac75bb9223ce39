"""The middleware before every handler: who is it, whom does he act for, may he do this. `request["user"]` is what it found out.

Without credentials there are only the paths of OPEN (rbac.authorization.k8s.io: system:public-info-viewer); everything else is 401.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web

from minipod.apiserver.auth.authn import Authenticator
from minipod.apiserver.auth.user import MASTERS, NOBODY
from minipod.errors import Forbidden, Unauthorized

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

logger = logging.getLogger(__name__)

OPEN = ("/healthz", "/livez", "/readyz", "/version")


class Gate:
    """See the module."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def middleware(self) -> Middleware:
        """Return it as aiohttp wants it."""

        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            await self._admit(request)
            return await handler(request)

        return gate

    async def _admit(self, request: web.Request) -> None:
        try:
            user = await self._authenticator.authenticate(request)
        except Unauthorized as e:  # why is for the operator, not for who tries
            logger.info("%s %s from %s: %s", request.method, request.path, request.remote, e)
            raise Unauthorized("Unauthorized") from e
        request["user"] = user
        if user is NOBODY:
            if request.method in ("GET", "HEAD") and request.path.rstrip("/") in OPEN:
                return
            raise Unauthorized("Unauthorized")
        if MASTERS not in user.groups:
            raise Forbidden(f'forbidden: User "{user.name}" cannot {request.method} {request.path}')
