"""Service account tokens of one pod: minted when a volume wants them, and again before they end.

K8S pkg/kubelet/token/token_manager.go: a token is replaced when 80 % of its time is over, or after a day. It is bound to the pod, so it
is void when the pod is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minipod.api.tokens import BoundObject
from minipod.errors import FailedPrecondition

if TYPE_CHECKING:
    from minipod.aio.timers import Clock
    from minipod.api.tokens import Token, TokenIssuer
    from minipod.kubelet.rules.pods import Pod, Raw

_LIFETIME = 3600
_DAY = 24 * 3600.0
_USED_UP = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    token: Token
    refresh_at: float


class PodTokens:
    """The tokens of one pod."""

    def __init__(self, issuer: TokenIssuer | None, clock: Clock) -> None:
        self._issuer = issuer
        self._clock = clock
        self._kept: dict[tuple[str, int], _Kept] = {}  # by audience and lifetime

    @property
    def refresh_at(self) -> float | None:
        """When the first of them must be replaced."""
        return min((kept.refresh_at for kept in self._kept.values()), default=None)

    async def get(self, pod: Pod, source: Raw) -> str:
        """Return the token that a serviceAccountToken source asks for. Raises MinipodError."""
        audience = source.get("audience") or ""
        lifetime = int(source.get("expirationSeconds") or _LIFETIME)
        kept = self._kept.get((audience, lifetime))
        now = self._clock()
        if kept is None or now >= kept.refresh_at:
            if self._issuer is None:
                raise FailedPrecondition("this node mints no tokens")
            token = await self._issuer.mint(
                pod.namespace,
                pod.service_account_name or "default",
                audiences=(audience,) if audience else (),
                lifetime=lifetime,
                bound=BoundObject(kind="Pod", name=pod.name, uid=pod.uid),
            )
            due = min(now + (token.expires_at - now) * _USED_UP, now + _DAY)
            kept = self._kept[audience, lifetime] = _Kept(token=token, refresh_at=due)
        return kept.token.text
