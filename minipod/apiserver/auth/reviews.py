"""Answers to questions about access: TokenReview, the four access reviews, SelfSubjectReview; and TokenRequest, which makes a token.

Nothing is stored; the answer is the object that was sent, with its status. Sources: pkg/registry/{authentication,authorization},
pkg/registry/core/serviceaccount/storage/token.go.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from minipod.api.fields import FieldErrors
from minipod.api.messages import invalid
from minipod.api.tokens import BoundObject
from minipod.apiserver import codec
from minipod.apiserver.auth.authorizer import Authorizer
from minipod.apiserver.auth.tokens import Tokens
from minipod.apiserver.auth.user import UserInfo
from minipod.apiserver.call import Call
from minipod.apiserver.kinds.reviews import AUTHENTICATION, AUTHORIZATION, TOKEN_REQUEST
from minipod.apiserver.requestinfo import RequestInfo
from minipod.apiserver.resources import Resource
from minipod.apiserver.status import bad_request
from minipod.errors import InvalidSpec, Unauthorized

if TYPE_CHECKING:
    from aiohttp import web

    from minipod.apiserver.app import Handler

Object = dict[str, Any]


class Reviews:
    """The handlers."""

    def __init__(self, tokens: Tokens, authorizer: Authorizer) -> None:
        self._tokens = tokens
        self._authorizer = authorizer

    def handlers(self) -> dict[tuple[str, str], Handler]:
        """Return them by target and verb."""
        authentication: dict[str, Handler] = {
            "tokenreviews": self.token_review,
            "selfsubjectreviews": self.self_review,
        }
        authorization: dict[str, Handler] = {
            "subjectaccessreviews": self.access_review,
            "localsubjectaccessreviews": self.access_review,
            "selfsubjectaccessreviews": self.access_review,
            "selfsubjectrulesreviews": self.rules_review,
        }
        return {
            ("serviceaccounts/token", "create"): self.token_request,
            **{(f"{t}.{AUTHENTICATION}", "create"): h for t, h in authentication.items()},
            **{(f"{t}.{AUTHORIZATION}", "create"): h for t, h in authorization.items()},
        }

    # -- authentication

    async def token_request(self, call: Call) -> web.Response:
        """POST .../serviceaccounts/NAME/token."""
        review = await _body(call, TOKEN_REQUEST)
        spec = review.get("spec") or {}
        ref = spec.get("boundObjectRef")
        bound = None
        if ref is not None:
            bound = BoundObject(
                kind=ref.get("kind", ""), name=ref.get("name", ""), uid=ref.get("uid", "")
            )
        lifetime = spec.get("expirationSeconds", 3600)
        audiences = tuple(spec.get("audiences") or self._tokens.api_audiences)
        try:
            token = await self._tokens.mint(
                call.info.namespace, call.info.name,
                audiences=audiences, lifetime=lifetime, bound=bound,
            )  # fmt: skip
        except InvalidSpec as e:
            raise _invalid(TOKEN_REQUEST, e.path, e.detail, spec) from e
        expires = datetime.fromtimestamp(token.expires_at, UTC)
        review["metadata"] = {"name": call.info.name, "namespace": call.info.namespace}
        review["spec"] = {**spec, "audiences": list(audiences), "expirationSeconds": lifetime}
        review["status"] = {
            "token": token.text,
            "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return call.reply(review, 201)

    async def token_review(self, call: Call) -> web.Response:
        """Who holds this token?"""
        review = await _body(call, call.resource)
        spec = review.get("spec") or {}
        if not spec.get("token"):
            raise bad_request("token is required for TokenReview in authentication")
        try:
            user, audiences = await self._tokens.authenticate(
                spec["token"], tuple(spec.get("audiences") or ())
            )
        except Unauthorized as e:
            review["status"] = {"user": {}, "error": e.message}
        else:
            review["status"] = {
                "authenticated": True, "user": user.to_object(), "audiences": list(audiences),
            }  # fmt: skip
        return call.reply(review, 201)

    async def self_review(self, call: Call) -> web.Response:
        """Who am I?"""
        review = await _body(call, call.resource)
        user: UserInfo = call.request["user"]
        review["status"] = {"userInfo": user.to_object()}
        return call.reply(review, 201)

    # -- authorization

    async def access_review(self, call: Call) -> web.Response:
        """May I, or may he, do this?"""
        review = await _body(call, call.resource)
        kind, spec = call.resource.kind, review.get("spec") or {}
        user = call.request["user"] if kind.startswith("Self") else _subject(call.resource, spec)
        info = _question(call.resource, spec)
        if call.resource.namespaced and info.namespace != call.info.namespace:
            raise bad_request(
                f"spec.resourceAttributes.namespace must match namespace: {call.info.namespace}"
            )
        reason = self._authorizer.allowed(user, info)
        review["status"] = {"allowed": bool(reason), **({"reason": reason} if reason else {})}
        return call.reply(review, 201)

    async def rules_review(self, call: Call) -> web.Response:
        """What may I do in this namespace?"""
        review = await _body(call, call.resource)
        namespace = (review.get("spec") or {}).get("namespace")
        if not namespace:
            raise bad_request("no namespace on request")
        resource_rules: list[Object] = []
        path_rules: list[Object] = []
        for rule in self._authorizer.rules(call.request["user"], namespace):
            (path_rules if rule.paths else resource_rules).append(rule.to_object())
        review["status"] = {
            "resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": False,
        }  # fmt: skip
        return call.reply(review, 201)


async def _body(call: Call, resource: Resource) -> Object:
    """Return the review that was sent. Raises ApiError 400."""
    content = await call.body()
    media = call.request.headers.get("Content-Type", "").partition(";")[0].strip()
    parsed = codec.parse(content, media)
    obj, _warnings = codec.decode_object(parsed, resource, "Ignore")
    return obj


def _subject(resource: Resource, spec: Object) -> UserInfo:
    if not spec.get("user") and not spec.get("groups"):
        words = "at least one of user or group must be specified"
        raise _invalid(resource, "spec.user", words, {"user": "", **spec})
    extra = spec.get("extra") or {}
    return UserInfo(
        name=spec.get("user", ""),
        uid=spec.get("uid", ""),
        groups=tuple(spec.get("groups") or ()),
        extra=tuple((key, tuple(values or ())) for key, values in extra.items()),
    )


def _question(kind_of: Resource, spec: Object) -> RequestInfo:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (path is None and resource is None) or (path is not None and resource is not None):
        words = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise _invalid(kind_of, "spec.resourceAttributes", words, spec)
    if resource is None:
        path = path or {}
        return RequestInfo(verb=path.get("verb", ""), path=path.get("path", ""))
    return RequestInfo(
        path="", is_resource=True,
        **{name: resource.get(name, "") for name in ("verb", "group", "version", "namespace", "resource", "subresource", "name")},
    )  # fmt: skip


def _invalid(resource: Resource, path: str, words: str, spec: Object) -> FieldErrors:
    """Return the 422 for *path*, which is in *spec*: with the value that is there."""
    value: Any = {"spec": spec}
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return FieldErrors(f'{resource.kind}.{resource.group} ""', [invalid(path, value, words)])
