"""Nobody grants what he does not have (kubernetes.io/docs/reference/access-authn-authz/rbac, "Privilege escalation prevention").

Who writes a role must have all of its rules himself, or the verb `escalate` on it; who writes a binding must have all rules of the
role, or the verb `bind` on it (pkg/registry/rbac/{role,rolebinding,clusterrole,clusterrolebinding}/policybased).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from minipod.apiserver.auth import rbac
from minipod.apiserver.auth.authorizer import Authorizer
from minipod.apiserver.auth.rbac import Rule
from minipod.apiserver.auth.user import MASTERS, UserInfo
from minipod.apiserver.call import Call
from minipod.errors import Forbidden, NotFound

Object = dict[str, Any]

GROUP = "rbac.authorization.k8s.io"
ROLES = ("roles", "clusterroles")
BINDINGS = ("rolebindings", "clusterrolebindings")


class Escalation:
    """The check of writes to roles and bindings."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def check(self, call: Call, obj: Object) -> None:
        """Raise Forbidden when *obj*, as it would be stored, gives more than its writer has."""
        if call.resource.group != GROUP:
            return
        user: UserInfo = call.request["user"]
        if MASTERS in user.groups:
            return
        if call.resource.plural in ROLES:
            self._role(user, call, obj)
        elif call.resource.plural in BINDINGS:
            self._binding(user, call, obj)

    def _role(self, user: UserInfo, call: Call, role: Object) -> None:
        name = role["metadata"].get("name", "")
        if self._may(user, call, "escalate", call.resource.plural, name):
            return
        if role.get("aggregationRule") is not None:
            everything = (Rule(verbs=("*",), groups=("*",), resources=("*",)),)
            self._require(user, call, name, everything)
        self._require(user, call, name, rbac.parse_all(role))

    def _binding(self, user: UserInfo, call: Call, binding: Object) -> None:
        ref = binding.get("roleRef") or {}
        kind, role = ref.get("kind", ""), ref.get("name", "")
        plural = "clusterroles" if kind == "ClusterRole" else "roles"
        if self._may(user, call, "bind", plural, role):
            return
        rules = self._authorizer.role(call.info.namespace, kind, role)
        if rules is None:  # who binds himself to what is to come would get whatever it becomes
            raise NotFound(f'{plural}.{GROUP} "{role}" not found')
        self._require(user, call, binding["metadata"].get("name", ""), rules)

    def _may(self, user: UserInfo, call: Call, verb: str, plural: str, name: str) -> bool:
        info = dataclasses.replace(call.info, verb=verb, resource=plural, subresource="", name=name)
        return bool(self._authorizer.allowed(user, info))

    def _require(self, user: UserInfo, call: Call, name: str, rules: tuple[Rule, ...]) -> None:
        missing = rbac.uncovered(self._authorizer.rules(user, call.info.namespace), rules)
        if missing:
            listed = "\n".join(str(rule.to_object()) for rule in missing)
            raise Forbidden(
                f'{call.resource.qualified} "{name}" is forbidden: user "{user.name}" (groups={list(user.groups)}) is attempting'
                f" to grant RBAC permissions not currently held:\n{listed}"
            )
