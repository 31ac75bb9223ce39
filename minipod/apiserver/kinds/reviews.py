"""Questions that are answered and not stored: who is it, may he do this. `auth.reviews` answers; the token request is a part of
a service account.
"""

from __future__ import annotations

from minipod.apiserver.resources import Resource

AUTHENTICATION, AUTHORIZATION = "authentication.k8s.io", "authorization.k8s.io"


def _review(kind: str, group: str, *, version: str = "v1", namespaced: bool = False) -> Resource:
    plural = kind.lower() + "s"
    return Resource(
        plural=plural, kind=kind, type=f"{group.partition('.')[0]}.{version}.{kind}", group=group,
        version=version, namespaced=namespaced, verbs=("create",), stored=False,
    )  # fmt: skip


TOKEN_REQUEST = _review("TokenRequest", AUTHENTICATION)  # has no path of its own
TOKEN_REVIEW = _review("TokenReview", AUTHENTICATION)
ACCESS = _review("SubjectAccessReview", AUTHORIZATION)
SELF_ACCESS = _review("SelfSubjectAccessReview", AUTHORIZATION)
LOCAL_ACCESS = _review("LocalSubjectAccessReview", AUTHORIZATION, namespaced=True)
SELF_RULES = _review("SelfSubjectRulesReview", AUTHORIZATION)

RESOURCES = (
    TOKEN_REVIEW,
    _review("SelfSubjectReview", AUTHENTICATION),
    _review("SelfSubjectReview", AUTHENTICATION, version="v1beta1"),  # kubectl 1.27
    ACCESS,
    SELF_ACCESS,
    LOCAL_ACCESS,
    SELF_RULES,
)
