"""Tokens of service accounts: who needs one (the kubelet, for projected volumes) asks through this Protocol.

`apiserver.auth.tokens` implements it; the composition root hands it over. A token is a JWT; its claims are those of Kubernetes
(KEP-1205): it names the service account, and is bound to a pod: when the pod or the account is gone, the token is void.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundObject:
    """What a token lives and dies with."""

    kind: str  # Pod, Secret or Node
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A minted token; *expires_at* in seconds since the epoch."""

    text: str
    expires_at: float


class TokenIssuer(Protocol):
    """Mints tokens."""

    async def mint(
        self,
        namespace: str,
        service_account: str,
        *,
        audiences: tuple[str, ...] = (),
        lifetime: int = 3600,
        bound: BoundObject | None = None,
    ) -> Token:
        """Return a token of an existing service account; *lifetime* is in seconds.

        Without audiences it is for the API server itself. Raises NotFound for an account or a bound object that is not
        there, Conflict when the bound object has another uid, InvalidSpec for a lifetime under ten minutes.
        """
