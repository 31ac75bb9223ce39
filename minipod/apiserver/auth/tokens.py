"""Service account tokens: minted on request, verified against what the store says now (KEP-1205; pkg/serviceaccount/claims.go).

A token names its account and the account's uid, and perhaps a pod with its uid: it is void when one of them is gone or another has taken
the name. Nothing is stored; the key is the node's (`pki.token_key`).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from minipod.api.store import Store
from minipod.api.tokens import BoundObject, Token
from minipod.apiserver.auth import jwt
from minipod.apiserver.auth.certificates import pki_of
from minipod.apiserver.auth.user import UserInfo, service_account_groups, service_account_name
from minipod.errors import Conflict, InvalidSpec, NotFound, Unauthorized
from minipod.spec.instance import Instance

SHORTEST, LONGEST = 600, 1 << 32  # seconds (ValidateTokenRequest)
LEEWAY = 10.0  # seconds that two readings of the clock may differ
DELETED_LEEWAY = 60.0  # seconds that a token outlives the end of its object's grace period
PRIVATE = "kubernetes.io"  # the claim that holds ours
RESOURCES = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}

Clock = Callable[[], float]


class Tokens:
    """Implements `minipod.api.tokens.TokenIssuer`; `authenticate` is its other half."""

    def __init__(self, store: Store, key: bytes, issuer: str, clock: Clock) -> None:
        self._store = store
        self._key = key
        self._issuer = issuer
        self._clock = clock

    @property
    def api_audiences(self) -> tuple[str, ...]:
        """The audiences that mean this API server."""
        return (self._issuer,)

    # -- minting

    async def mint(
        self,
        namespace: str,
        service_account: str,
        *,
        audiences: tuple[str, ...] = (),
        lifetime: int = 3600,
        bound: BoundObject | None = None,
    ) -> Token:
        if not SHORTEST <= lifetime <= LONGEST:
            words = "may not specify a duration " + (
                "less than 10 minutes" if lifetime < SHORTEST else "larger than 2^32 seconds"
            )
            raise InvalidSpec(words, path="spec.expirationSeconds")
        account = await self._store.get("serviceaccounts", namespace, service_account)
        private: dict[str, Any] = {"namespace": namespace, "serviceaccount": _reference(account)}
        if bound is not None:
            private |= await self._bind(namespace, service_account, bound)
        now = int(self._clock())
        claims = {
            "iss": self._issuer,
            "sub": service_account_name(namespace, service_account),
            "aud": list(audiences or self.api_audiences),
            "iat": now, "nbf": now, "exp": now + lifetime,
            "jti": str(uuid.uuid4()),
            PRIVATE: private,
        }  # fmt: skip
        return Token(text=jwt.sign(claims, self._key), expires_at=float(now + lifetime))

    async def _bind(self, namespace: str, account: str, bound: BoundObject) -> dict[str, Any]:
        if bound.kind not in RESOURCES:
            known = ", ".join(sorted(RESOURCES))
            raise InvalidSpec(f"{bound.kind!r} is none of {known}", path="spec.boundObjectRef.kind")
        space = "" if bound.kind == "Node" else namespace
        obj = await self._store.get(RESOURCES[bound.kind], space, bound.name)
        if bound.uid and obj["metadata"]["uid"] != bound.uid:
            raise Conflict(
                f"the UID in the bound object reference ({bound.uid}) does not match the UID in record."
                " The object might have been deleted and then recreated"
            )
        claims = {bound.kind.lower(): _reference(obj)}
        if bound.kind == "Pod":
            spec = obj.get("spec", {})
            if spec.get("serviceAccountName", "default") != account:
                raise InvalidSpec(
                    f"cannot bind token for serviceaccount {account!r} to pod running with different serviceaccount name",
                    path="spec.boundObjectRef",
                )
            if node := spec.get("nodeName"):
                claims["node"] = await self._node(node)
        return claims

    async def _node(self, name: str) -> dict[str, str]:
        try:
            return _reference(await self._store.get("nodes", "", name))
        except NotFound:
            return {"name": name}

    # -- verifying

    async def authenticate(
        self, text: str, audiences: tuple[str, ...] = ()
    ) -> tuple[UserInfo, tuple[str, ...]]:
        """Return who holds the token, and for which of *audiences* (default: this API server's). Raises Unauthorized."""
        try:
            claims = jwt.verify(text, self._key)
        except jwt.BadToken as e:
            raise Unauthorized(str(e)) from e
        common = self._check(claims, audiences or self.api_audiences)
        private = claims[PRIVATE]
        namespace, account = private["namespace"], private["serviceaccount"]
        await self._living("serviceaccounts", namespace, account)
        for kind, resource in RESOURCES.items():
            # A node that is named beside a pod only tells where the pod runs.
            if kind.lower() in private and not (kind == "Node" and "pod" in private):
                space = "" if kind == "Node" else namespace
                await self._living(resource, space, private[kind.lower()])
        user = UserInfo(
            name=service_account_name(namespace, account["name"]),
            uid=account["uid"],
            groups=service_account_groups(namespace),
            extra=tuple(_extra(claims)),
        )
        return user, common

    def _check(self, claims: jwt.Claims, audiences: tuple[str, ...]) -> tuple[str, ...]:
        now = self._clock()
        if claims["iss"] != self._issuer:
            raise Unauthorized(f"the token's issuer {claims['iss']!r} is not ours")
        if now < claims["nbf"] - LEEWAY:
            raise Unauthorized("the token is not valid yet")
        if now > claims["exp"] + LEEWAY:
            raise Unauthorized("the token has expired")
        common = tuple(a for a in claims["aud"] if a in audiences)
        if not common:
            raise Unauthorized(f"the token's audiences {claims['aud']} are not {list(audiences)}")
        return common

    async def _living(self, resource: str, namespace: str, reference: dict[str, str]) -> None:
        """Check that the object is there, the same one, and not deleted longer than its grace period ago."""
        try:
            obj = await self._store.get(resource, namespace, reference["name"])
        except NotFound:
            raise Unauthorized(f"{resource} {reference['name']!r} of the token is gone") from None
        metadata = obj["metadata"]
        if metadata["uid"] != reference["uid"]:
            raise Unauthorized(f"{resource} {reference['name']!r} is not the one of the token")
        deleted = metadata.get("deletionTimestamp")
        if deleted and self._clock() > datetime.fromisoformat(deleted).timestamp() + DELETED_LEEWAY:
            raise Unauthorized(f"{resource} {reference['name']!r} of the token has been deleted")


def _reference(obj: dict[str, Any]) -> dict[str, str]:
    return {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}


def _extra(claims: jwt.Claims) -> list[tuple[str, tuple[str, ...]]]:
    prefix = "authentication.kubernetes.io"
    found: list[tuple[str, tuple[str, ...]]] = [
        (f"{prefix}/credential-id", (f"JTI={claims['jti']}",))
    ]
    for kind in ("node", "pod"):
        for key, value in claims[PRIVATE].get(kind, {}).items():
            found.append((f"{prefix}/{kind}-{key}", (value,)))
    return found


def of_node(instance: Instance, store: Store) -> Tokens:
    """Return the node's maker of tokens."""
    issuer = f"https://kubernetes.default.svc.{instance.cluster_domain}"
    return Tokens(store, pki_of(instance).token_key(), issuer, time.time)
