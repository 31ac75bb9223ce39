"""The kinds of objects that there are, as controllers that concern all of them see them; the composition root hands them over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind that is stored: *resource* is its name in the store."""

    resource: str
    group: str
    kind: str
    namespaced: bool


class Kinds:
    """All of them, by group and kind."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._found = {(kind.group, kind.kind): kind for kind in kinds}

    def __iter__(self) -> Iterator[Kind]:
        """Yield each place in the store once: a kind may have two names (events)."""
        return iter({kind.resource: kind for kind in reversed(self._found.values())}.values())

    def of_reference(self, api_version: str, kind: str) -> Kind | None:
        """Return the kind that an ownerReference names, whatever its version."""
        group, _, version = api_version.rpartition("/")
        return self._found.get((group if version else "", kind))
