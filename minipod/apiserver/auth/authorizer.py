"""Authorization by roles: who is bound to which rules, as the store says now.

Follows the four kinds by informers, which keep rules and subjects only. A binding to a role that is not there gives nothing. Members of
system:masters may everything, whatever the roles say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from minipod.api.informer import Change, Informer, Key
from minipod.api.store import Object, Store
from minipod.apiserver.auth import rbac
from minipod.apiserver.auth.rbac import Rule
from minipod.apiserver.auth.user import MASTERS, UserInfo, service_account_name
from minipod.apiserver.requestinfo import RequestInfo

Subject = tuple[str, str]  # User or Group, and its name
EVERYTHING = (
    Rule(verbs=("*",), groups=("*",), resources=("*",)),
    Rule(verbs=("*",), paths=("*",)),
)


@dataclass(frozen=True, slots=True)
class Binding:
    """Whom a binding binds to which role."""

    subjects: frozenset[Subject]
    cluster_role: bool
    role: str


class Authorizer:
    """`run` follows the store; `synced` waits for the first lists."""

    def __init__(self, store: Store) -> None:
        self._roles = Informer(store, "roles", rbac.parse_all)
        self._cluster_roles = Informer(store, "clusterroles", rbac.parse_all)
        self._bindings = Informer(store, "rolebindings", _binding)
        self._cluster_bindings = Informer(store, "clusterrolebindings", _binding)
        self._by_subject: dict[
            Subject, set[Key]
        ] = {}  # the keys of cluster bindings have no namespace
        for informer in (self._bindings, self._cluster_bindings):
            informer.subscribe(self._bound)

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers():
                group.create_task(informer.run(), name=f"informer {informer.resource}")

    async def synced(self) -> None:
        """Wait until all roles and bindings are known."""
        for informer in self._informers():
            await informer.synced.wait()

    def _informers(self) -> tuple[Informer[tuple[Rule, ...]] | Informer[Binding], ...]:
        return (self._roles, self._cluster_roles, self._bindings, self._cluster_bindings)

    def _bound(self, change: Change[Binding]) -> None:
        for subject in change.old.subjects if change.old else ():
            self._by_subject[subject].discard(change.key)
            if not self._by_subject[subject]:
                del self._by_subject[subject]
        for subject in change.new.subjects if change.new else ():
            self._by_subject.setdefault(subject, set()).add(change.key)

    # -- questions

    def allowed(self, user: UserInfo, info: RequestInfo) -> str:
        """Return why *user* may do this, "" when he may not."""
        if MASTERS in user.groups:
            return f"group {MASTERS}"
        for name, rule in self._rules(user, info.namespace):
            if rbac.allows(rule, info):
                return f'RBAC: allowed by {name} to User "{user.name}"'
        return ""

    def rules(self, user: UserInfo, namespace: str) -> list[Rule]:
        """Return everything that *user* may do in *namespace* ("": in all of them, and outside)."""
        if MASTERS in user.groups:
            return list(EVERYTHING)
        return [rule for _, rule in self._rules(user, namespace)]

    def role(self, namespace: str, kind: str, name: str) -> tuple[Rule, ...] | None:
        """Return the rules of a role, None for one that is not there."""
        if kind == "ClusterRole":
            return self._cluster_roles.get("", name)
        return self._roles.get(namespace, name)

    def _rules(self, user: UserInfo, namespace: str) -> Iterator[tuple[str, Rule]]:
        subjects: list[Subject] = [("User", user.name), *(("Group", g) for g in user.groups)]
        for subject in subjects:
            for key in self._by_subject.get(subject, ()):
                if key[0] not in ("", namespace):
                    continue
                found = self._bindings if key[0] else self._cluster_bindings
                binding = found.get(*key)
                assert binding is not None  # `_by_subject` follows the informers
                kind = "ClusterRole" if binding.cluster_role else "Role"
                what = f'{"" if key[0] else "Cluster"}RoleBinding "{"/".join(k for k in key[::-1] if k)}"'
                for rule in self.role(key[0], kind, binding.role) or ():
                    yield f'{what} of {kind} "{binding.role}"', rule


def _binding(obj: Object) -> Binding:
    namespace = obj["metadata"].get("namespace", "")
    ref = obj.get("roleRef") or {}
    return Binding(
        subjects=frozenset(_subject(s, namespace) for s in obj.get("subjects") or ()),
        cluster_role=ref.get("kind") == "ClusterRole",
        role=ref.get("name", ""),
    )


def _subject(subject: Object, namespace: str) -> Subject:
    name = subject.get("name", "")
    if subject.get("kind") == "ServiceAccount":
        return "User", service_account_name(subject.get("namespace") or namespace, name)
    return subject.get("kind", ""), name
