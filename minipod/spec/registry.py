"""Credentials for a registry, as the CRI's AuthConfig carries them. Values; who they fit is decided elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """Empty fields are not given; secrets stay out of logs (they are no part of the repr)."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)  # an OAuth2 refresh token
    registry_token: str = field(default="", repr=False)  # a bearer token, sent as it is


ANONYMOUS = AuthConfig()
