"""Cluster roles that consist of others: their rules are those of all roles that their aggregationRule selects by label
(pkg/controller/clusterroleaggregation).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minipod.api.informer import Change
from minipod.api.store import Object, Store
from minipod.controllers.controller import Controller, Informers
from minipod.controllers.selectors import matches


@dataclass(frozen=True, slots=True)
class Role:
    """What of a role matters here: *selectors* is None where it has rules of its own."""

    labels: dict[str, str]
    selectors: list[dict[str, Any]] | None
    rules: list[dict[str, Any]]


def _role(obj: Object) -> Role:
    aggregation = obj.get("aggregationRule")
    selectors = None if aggregation is None else aggregation.get("clusterRoleSelectors") or []
    return Role(obj["metadata"].get("labels") or {}, selectors, obj.get("rules") or [])


class ClusterRoleController(Controller[str]):
    """Keys are names of cluster roles."""

    name = "clusterroles"

    def __init__(self, store: Store, informers: Informers) -> None:
        super().__init__()
        self._store = store
        self._roles = informers.of("clusterroles", _role)
        self._roles.subscribe(self._changed)

    def _changed(self, _: Change[Role]) -> None:
        """Any role may be a part of any other: there are few that have parts."""
        for (_namespace, name), role in self._roles.items():
            if role.selectors is not None:
                self.enqueue(name)

    async def reconcile(self, key: str) -> None:
        role = self._roles.get("", key)
        if role is None or role.selectors is None:
            return
        rules = list(self._parts(key, role.selectors))
        if rules != role.rules:
            await self._store.mutate("clusterroles", "", key, lambda r: {**r, "rules": rules})

    def _parts(self, key: str, selectors: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        seen: list[dict[str, Any]] = []
        for (_namespace, name), role in sorted(self._roles.items()):
            if name == key or not any(matches(s, role.labels) for s in selectors):
                continue
            for rule in role.rules:
                if rule not in seen:
                    seen.append(rule)
                    yield rule
