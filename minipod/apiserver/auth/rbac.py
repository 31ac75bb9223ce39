"""The rules of roles, pure: does a rule allow a request; does a set of rules cover another one
(KEP-3, pkg/apis/rbac/v1/evaluation_helpers.go; component-helpers/auth/rbac/validation/policy_comparator.go).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from minipod.apiserver.requestinfo import RequestInfo

ALL = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A PolicyRule: about resources, or about paths."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()  # pods, pods/log, */scale, *
    names: tuple[str, ...] = ()  # none: all
    paths: tuple[str, ...] = ()  # /healthz, /api/*, *

    @classmethod
    def parse(cls, rule: dict[str, Any]) -> Rule:
        """Read a rule of a (cluster) role."""
        return cls(
            verbs=tuple(rule.get("verbs") or ()),
            groups=tuple(rule.get("apiGroups") or ()),
            resources=tuple(rule.get("resources") or ()),
            names=tuple(rule.get("resourceNames") or ()),
            paths=tuple(rule.get("nonResourceURLs") or ()),
        )

    def to_object(self) -> dict[str, Any]:
        """Return it as Kubernetes writes it, without empty fields."""
        fields = {
            "verbs": self.verbs, "apiGroups": self.groups, "resources": self.resources,
            "resourceNames": self.names, "nonResourceURLs": self.paths,
        }  # fmt: skip
        return {name: list(value) for name, value in fields.items() if value}


def parse_all(role: dict[str, Any]) -> tuple[Rule, ...]:
    """Return the rules of a (cluster) role."""
    return tuple(Rule.parse(rule) for rule in role.get("rules") or ())


def allows(rule: Rule, info: RequestInfo) -> bool:
    """Whether *rule* allows the request."""
    if not _in(rule.verbs, info.verb):
        return False
    if not info.is_resource:
        return any(_path_fits(path, info.path) for path in rule.paths)
    return (
        _in(rule.groups, info.group)
        and _resource_fits(rule.resources, info)
        and (not rule.names or info.name in rule.names)
    )


def _in(allowed: Sequence[str], wanted: str) -> bool:
    return ALL in allowed or wanted in allowed


def _resource_fits(resources: Sequence[str], info: RequestInfo) -> bool:
    if _in(resources, info.target):
        return True
    return bool(info.subresource) and f"*/{info.subresource}" in resources


def _path_fits(allowed: str, path: str) -> bool:
    return allowed in (ALL, path) or (allowed.endswith(ALL) and path.startswith(allowed[:-1]))


def uncovered(owned: Iterable[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """Return the parts of *wanted* that no single rule of *owned* gives: who grants them would grant more than he has."""
    have = list(owned)
    return [part for part in split(wanted) if not any(_covers(rule, part) for rule in have)]


def split(rules: Iterable[Rule]) -> list[Rule]:
    """Return *rules* as rules about one verb and one resource (of one group, with one name) or one path each."""
    found: dict[Rule, None] = {}
    for rule in rules:
        for group, resource, verb in itertools.product(rule.groups, rule.resources, rule.verbs):
            for names in ((name,) for name in rule.names) if rule.names else ((),):
                found[Rule(verbs=(verb,), groups=(group,), resources=(resource,), names=names)] = (
                    None
                )
        for path, verb in itertools.product(rule.paths, rule.verbs):
            found[Rule(verbs=(verb,), paths=(path,))] = None
    return list(found)


def _covers(owner: Rule, part: Rule) -> bool:
    if not _in(owner.verbs, part.verbs[0]):
        return False
    if part.paths:
        return any(_path_fits(path, part.paths[0]) for path in owner.paths)
    resource = part.resources[0]
    subresource = resource.partition("/")[2]
    return (
        _in(owner.groups, part.groups[0])
        and (
            _in(owner.resources, resource)
            or bool(subresource and f"*/{subresource}" in owner.resources)
        )
        and (not owner.names or (bool(part.names) and part.names[0] in owner.names))
    )
