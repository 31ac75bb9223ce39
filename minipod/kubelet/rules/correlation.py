"""How repeated events become few: EventCorrelator (K8S client-go tools/record/events_cache.go). No I/O.

spam      for each object a bucket of 25 events, one more every five minutes: what is above is dropped
aggregate more than ten events within ten minutes that differ in their message alone become one,
          `(combined from similar events): ` and the newest message
count     an event that is the same in everything is counted
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

BURST = 25
REFILL = 300.0  # seconds for one more
SIMILAR = 10
INTERVAL = 600.0  # seconds
PREFIX = "(combined from similar events): "
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """What happened to which object; the fields that make two events the same one."""

    namespace: str
    kind: str
    name: str
    uid: str
    field_path: str
    type: str
    reason: str
    message: str

    @property
    def about(self) -> Occurrence:
        """The object alone: the key of the spam bucket."""
        return replace(self, field_path="", type="", reason="", message="")


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


@dataclass(slots=True)
class _Similar:
    messages: set[str] = field(default_factory=set)
    last: float = 0.0


class Correlator:
    """Remembers the last few thousand events of each sort."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[Occurrence, _Bucket] = OrderedDict()
        self._similar: OrderedDict[Occurrence, _Similar] = OrderedDict()

    def correlate(self, what: Occurrence, now: float) -> tuple[Occurrence, str] | None:
        """(the event that is counted, the message to show) for what happened *now*; None: dropped."""
        if not self._admit(what.about, now):
            return None
        group = replace(what, message="")
        similar = _remembered(self._similar, group, _Similar)
        if now - similar.last > INTERVAL:
            similar.messages.clear()
        similar.last = now
        similar.messages.add(what.message)
        if len(similar.messages) < SIMILAR:
            return what, what.message
        similar.messages.pop()  # it stays at the limit, and bounded
        return group, PREFIX + what.message

    def _admit(self, about: Occurrence, now: float) -> bool:
        bucket = _remembered(self._buckets, about, lambda: _Bucket(BURST, now))
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.filled_at) / REFILL)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _remembered(table: OrderedDict[K, V], key: K, make: Callable[[], V]) -> V:
    if key not in table:
        table[key] = make()
        if len(table) > _REMEMBERED:
            table.popitem(last=False)
    table.move_to_end(key)
    return table[key]
