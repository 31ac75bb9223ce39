"""The journal: what was decided about a pod and why, as values that can be printed and compared.

A bounded ring per pod, in memory: it explains, it does not recover. `explain` style commands read
it; the log says what happened, the journal says which rule asked for it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_KEPT_PER_POD = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One decision: *rule* names the function that decided, *because* the facts it saw."""

    at: float  # seconds since the epoch
    pod_uid: str
    rule: str
    decision: str
    because: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        facts = ", ".join(f"{key}={value}" for key, value in self.because.items())
        return f"{self.rule}: {self.decision}" + (f" ({facts})" if facts else "")


class Journal:
    """Decision records, newest last, repeated decisions stored once."""

    def __init__(self, kept_per_pod: int = _KEPT_PER_POD) -> None:
        self._kept = kept_per_pod
        self._records: dict[str, deque[Record]] = {}

    def write(self, record: Record) -> None:
        """Add *record* unless it repeats the last one of its pod."""
        ring = self._records.setdefault(record.pod_uid, deque(maxlen=self._kept))
        last = ring[-1] if ring else None
        if last is None or (last.rule, last.decision, last.because) != (
            record.rule,
            record.decision,
            record.because,
        ):
            ring.append(record)

    def read(self, pod_uid: str) -> tuple[Record, ...]:
        return tuple(self._records.get(pod_uid, ()))

    def forget(self, pod_uid: str) -> None:
        self._records.pop(pod_uid, None)
