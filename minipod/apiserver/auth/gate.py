"""The middleware before every handler: who is it, whom does he act for, may he do this.

Afterwards `request["user"]` is the UserInfo that the request acts as; `request["info"]`, of `app.tell_errors`, is what it is about. Without
credentials there are only the paths of OPEN, whatever the roles say; everything else is 401.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

from aiohttp import web

from minipod.apiserver.auth import impersonation
from minipod.apiserver.auth.authn import Authenticator
from minipod.apiserver.auth.authorizer import Authorizer
from minipod.apiserver.auth.user import NOBODY, UserInfo
from minipod.apiserver.requestinfo import RequestInfo
from minipod.errors import Forbidden, Unauthorized

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

    from minipod.apiserver.call import Call

logger = logging.getLogger(__name__)

OPEN = ("/healthz", "/livez", "/readyz", "/version")


class Gate:
    """See the module."""

    def __init__(self, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer

    def middleware(self) -> Middleware:
        """Return it as aiohttp wants it."""

        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            await self._admit(request)
            return await handler(request)

        return gate

    async def _admit(self, request: web.Request) -> None:
        info: RequestInfo = request["info"]
        user = await self._authenticate(request)
        if user is NOBODY:
            request["user"] = user
            if info.verb in ("get", "head") and info.path in OPEN:
                return
            raise Unauthorized("Unauthorized")
        request["user"] = user = self._acting(request, user)
        self.require(user, info)

    async def _authenticate(self, request: web.Request) -> UserInfo:
        try:
            return await self._authenticator.authenticate(request)
        except Unauthorized as e:  # why is for the operator, not for who tries
            logger.info("%s %s from %s: %s", request.method, request.path, request.remote, e)
            raise Unauthorized("Unauthorized") from e

    def _acting(self, request: web.Request, user: UserInfo) -> UserInfo:
        wanted = impersonation.asked_for(request.headers)
        if wanted is None:
            return user
        for question in impersonation.questions(request.headers):
            self.require(user, question)
        return wanted

    def require_create(self, call: Call) -> None:
        """Raise Forbidden unless the request's user may create its object: an apply is a patch, whatever comes of it."""
        self.require(call.request["user"], dataclasses.replace(call.info, verb="create"))

    def require(self, user: UserInfo, info: RequestInfo) -> None:
        """Raise Forbidden unless *user* may do this."""
        if not self._authorizer.allowed(user, info):
            raise Forbidden(refusal(user, info))


def refusal(user: UserInfo, info: RequestInfo) -> str:
    """Return the words of a 403 (apiserver/pkg/endpoints/handlers/responsewriters/errors.go)."""
    if not info.is_resource:
        return f'forbidden: User "{user.name}" cannot {info.verb} path "{info.path}"'
    qualified = f"{info.resource}.{info.group}" if info.group else info.resource
    what = f'{qualified} "{info.name}"' if info.name else qualified
    where = f'in the namespace "{info.namespace}"' if info.namespace else "at the cluster scope"
    return (
        f'{what} is forbidden: User "{user.name}" cannot {info.verb} resource "{info.target}" in API group'
        f' "{info.group}" {where}'
    )
