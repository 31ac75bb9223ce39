"""Who a request comes from (authentication.k8s.io/v1 UserInfo)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ANONYMOUS = "system:anonymous"
AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
MASTERS = "system:masters"  # may everything, whatever the roles say
SERVICE_ACCOUNTS = "system:serviceaccounts"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInfo:
    """A user; *extra* is pairs of a key and its values."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def to_object(self) -> dict[str, Any]:
        """Return it as Kubernetes writes it."""
        found: dict[str, Any] = {"username": self.name, "groups": list(self.groups)}
        if self.uid:
            found["uid"] = self.uid
        if self.extra:
            found["extra"] = {key: list(values) for key, values in self.extra}
        return found


ROOT = UserInfo(name="system:admin", groups=(MASTERS, AUTHENTICATED))  # who can open the socket
NOBODY = UserInfo(name=ANONYMOUS, groups=(UNAUTHENTICATED,))


def service_account_name(namespace: str, name: str) -> str:
    """Return the user name of a service account."""
    return f"system:serviceaccount:{namespace}:{name}"


def service_account_groups(namespace: str) -> tuple[str, ...]:
    """Return the groups that every service account of *namespace* is in."""
    return (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}", AUTHENTICATED)
