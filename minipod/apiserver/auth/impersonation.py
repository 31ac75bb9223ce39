"""Acting for someone else: the headers Impersonate-User, -Group, -Uid, -Extra-KEY (kubectl --as, --as-group, --as-uid).

Who acts needs the verb impersonate for each: users, groups, serviceaccounts (core), uids, userextras/KEY (authentication.k8s.io).
Source: apiserver/pkg/endpoints/filters/impersonation.go.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

from minipod.apiserver.auth.user import (
    ANONYMOUS,
    AUTHENTICATED,
    UNAUTHENTICATED,
    UserInfo,
    service_account_groups,
)
from minipod.apiserver.requestinfo import RequestInfo
from minipod.errors import FailedPrecondition

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

USER, GROUP, UID, EXTRA = (
    "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-",
)  # fmt: skip
SERVICE_ACCOUNT = "system:serviceaccount:"
AUTHENTICATION = "authentication.k8s.io"


def asked_for(headers: CIMultiDictProxy[str]) -> UserInfo | None:
    """Return the user that the headers ask for, None without them.

    Raises FailedPrecondition (400) without a user among them, and for bytes that are no UTF-8.
    """
    if not any(header[:12].lower() == "impersonate-" for header in headers):
        return None
    name = headers.get(USER, "")
    groups = tuple(headers.getall(GROUP, ()))
    uid = headers.get(UID, "")
    extra = _extra(headers)
    values = itertools.chain.from_iterable(extra.values())
    if not all(map(_is_text, (name, uid, *groups, *extra, *values))):
        raise FailedPrecondition("impersonation of a name that is not UTF-8")
    if not name:
        if groups or uid or extra:
            raise FailedPrecondition(f"impersonation of a group, uid or extra without {USER}")
        return None
    if not groups and name.startswith(SERVICE_ACCOUNT):
        namespace = name.removeprefix(SERVICE_ACCOUNT).partition(":")[0]
        groups = service_account_groups(namespace)
    elif name == ANONYMOUS:
        groups = tuple(dict.fromkeys((*groups, UNAUTHENTICATED)))
    elif UNAUTHENTICATED not in groups:
        groups = tuple(dict.fromkeys((*groups, AUTHENTICATED)))
    return UserInfo(name=name, uid=uid, groups=groups, extra=tuple(extra.items()))


def _is_text(value: str) -> bool:
    """Whether a header held UTF-8: other bytes come as halves of surrogate pairs."""
    return not any("\ud800" <= c <= "\udfff" for c in value)


def _extra(headers: CIMultiDictProxy[str]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for header, value in headers.items():
        if header.lower().startswith(EXTRA.lower()):
            key = unquote(header[len(EXTRA) :].lower())
            found[key] = (*found.get(key, ()), value)
    return found


def questions(headers: CIMultiDictProxy[str]) -> Iterator[RequestInfo]:
    """Yield what who acts must be allowed to do: one request for each thing that is asked for."""
    name = headers.get(USER, "")
    if name.startswith(SERVICE_ACCOUNT) and name.count(":") == 3:
        namespace, _, account = name.removeprefix(SERVICE_ACCOUNT).partition(":")
        yield _question("serviceaccounts", account, namespace=namespace)
    else:
        yield _question("users", name)
    for group in headers.getall(GROUP, ()):
        yield _question("groups", group)
    if uid := headers.get(UID):
        yield _question("uids", uid, group=AUTHENTICATION)
    for key, values in _extra(headers).items():
        for value in values:
            yield _question("userextras", value, group=AUTHENTICATION, subresource=key)


def _question(
    resource: str, name: str, *, group: str = "", namespace: str = "", subresource: str = ""
) -> RequestInfo:
    return RequestInfo(
        verb="impersonate", path="", is_resource=True, group=group, version="v1", namespace=namespace,
        resource=resource, subresource=subresource, name=name,
    )  # fmt: skip
