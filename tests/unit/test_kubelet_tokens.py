"""Tokens of a pod: kept while they are good, replaced in time, one for each audience and lifetime."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.api.tokens import BoundObject, Token
from minipod.errors import FailedPrecondition
from minipod.kubelet.rules.pods import compile_pod
from minipod.kubelet.tokens import PodTokens

POD = compile_pod(
    {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
        "spec": {"serviceAccountName": "sa"},
    }
)


class Issuer:
    """Mints numbered tokens that last as long as asked for."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[tuple[str, str, tuple[str, ...], BoundObject | None]] = []

    async def mint(
        self, namespace: str, service_account: str, *, audiences: tuple[str, ...] = (), lifetime: int = 3600,
        bound: BoundObject | None = None,
    ) -> Token:  # fmt: skip
        self.asked.append((namespace, service_account, audiences, bound))
        return Token(text=f"token {len(self.asked)}", expires_at=self.now + lifetime)


async def test_a_token_is_kept_until_most_of_its_time_is_over() -> None:
    issuer = Issuer()
    tokens = PodTokens(issuer, lambda: issuer.now)
    source: dict[str, Any] = {"path": "t", "expirationSeconds": 1000}
    assert tokens.refresh_at is None
    assert await tokens.get(POD, source) == "token 1"
    assert tokens.refresh_at == 1800.0
    issuer.now = 1799.0
    assert await tokens.get(POD, source) == "token 1"
    issuer.now = 1800.0
    assert await tokens.get(POD, source) == "token 2"
    assert issuer.asked[0] == ("shop", "sa", (), BoundObject(kind="Pod", name="web", uid="u"))


async def test_a_long_token_is_replaced_after_a_day() -> None:
    issuer = Issuer()
    tokens = PodTokens(issuer, lambda: issuer.now)
    await tokens.get(POD, {"path": "t", "expirationSeconds": 10 * 24 * 3600})
    assert tokens.refresh_at == 1000.0 + 24 * 3600


async def test_audiences_have_tokens_of_their_own() -> None:
    issuer = Issuer()
    tokens = PodTokens(issuer, lambda: issuer.now)
    assert await tokens.get(POD, {"path": "t"}) == "token 1"
    assert await tokens.get(POD, {"path": "t", "audience": "vault"}) == "token 2"
    assert issuer.asked[1][2] == ("vault",)


async def test_without_an_issuer_there_is_no_token() -> None:
    with pytest.raises(FailedPrecondition):
        await PodTokens(None, lambda: 0.0).get(POD, {"path": "t"})
