"""The journal: what was decided about a pod and why, as values that can be printed and compared.

Each record names the rule that decided and the facts it saw. It explains, it does not recover: the log says what happened, the
journal which rule asked for it; `minipod why` reads it. Bounded: the newest records of each pod, in memory and in one file per
pod below *directory* (a tmpfs: a write waits for no disk, and survives the daemon but no reboot). A file is rewritten when it
holds twice as many records as are kept. Without a directory it lives in memory alone. The files may be written a moment *later*:
nobody who works on a pod waits for them, and what gathers meanwhile is one write.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from minipod.linux import small_files

logger = logging.getLogger(__name__)

_KEPT_PER_POD = 200
_LONGEST_FACT = 500  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One decision: *rule* names the function that decided, *because* the facts it saw."""

    at: float  # seconds since the epoch
    pod_uid: str
    rule: str
    decision: str
    container: str = ""  # "": about the pod as a whole
    because: dict[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        facts = ", ".join(f"{key}={value}" for key, value in self.because.items())
        whom = f"{self.container}: " if self.container else ""
        return f"{whom}{self.decision}" + (f" ({facts})" if facts else "") + f"  [{self.rule}]"


class Journal:
    """Decision records, newest last; a decision that repeats the last one of its rule and container is stored once."""

    def __init__(
        self,
        directory: str = "",
        kept_per_pod: int = _KEPT_PER_POD,
        later: Callable[[Callable[[], None]], object] = lambda flush: flush(),
    ) -> None:
        """*later* is given `flush`, to be called soon."""
        self._directory = directory
        self._kept = kept_per_pod
        self._later = later
        self._rings: dict[str, deque[Record]] = {}
        self._lines: dict[str, int] = {}  # in the pod's file
        self._unwritten: dict[str, list[Record]] = {}

    def write(self, record: Record) -> None:
        """Add *record* unless it says nothing new."""
        ring = self._ring(record.pod_uid)
        about = (record.rule, record.container)
        for last in reversed(ring):
            if (last.rule, last.container) == about:
                if (last.decision, last.because) == (record.decision, record.because):
                    return
                break
        facts = {key: value[:_LONGEST_FACT] for key, value in record.because.items()}
        record = replace(record, because=facts)
        ring.append(record)
        if self._directory:
            asked = bool(self._unwritten)
            self._unwritten.setdefault(record.pod_uid, []).append(record)
            if not asked:
                self._later(self.flush)

    def flush(self) -> None:
        """Write what is in no file yet. Idempotent."""
        unwritten, self._unwritten = self._unwritten, {}
        for uid, records in unwritten.items():
            self._store(uid, records)

    def read(self, pod_uid: str) -> tuple[Record, ...]:
        """The pod's records, oldest first."""
        return tuple(self._ring(pod_uid))

    def forget(self, pod_uid: str) -> None:
        """The pod is no more."""
        self._rings.pop(pod_uid, None)
        self._lines.pop(pod_uid, None)
        self._unwritten.pop(pod_uid, None)
        if self._directory:
            try:
                os.unlink(self._path(pod_uid))
            except FileNotFoundError:
                pass  # nothing was decided about it

    def keep_only(self, pod_uids: Iterable[str]) -> None:
        """Forget all pods but these."""
        wanted = set(pod_uids)
        found = os.listdir(self._directory) if os.path.isdir(self._directory) else ()
        for uid in {*found, *self._rings} - wanted:
            self.forget(uid)

    def _path(self, uid: str) -> str:
        return f"{self._directory}/{uid}"

    def _ring(self, uid: str) -> deque[Record]:
        ring = self._rings.get(uid)
        if ring is None:
            found = self._load(uid) if self._directory else []
            ring = self._rings[uid] = deque(found, maxlen=self._kept)
        return ring

    def _load(self, uid: str) -> list[Record]:
        found = []
        try:
            for line in small_files.read(self._path(uid)).splitlines():
                found.append(Record(**json.loads(line)))  # noqa: PERF401 - what a torn line leaves is kept
        except FileNotFoundError:
            pass
        except (
            OSError,
            ValueError,
            TypeError,
        ) as error:  # torn by a full disk, or of another version
            logger.warning("journal of pod %s: %s", uid, error)
            self._lines[uid] = 2 * self._kept  # the next record writes the file anew
            return found
        self._lines[uid] = len(found)
        return found

    def _store(self, uid: str, records: list[Record]) -> None:
        ring = self._rings[uid]
        whole = self._lines[uid] >= 2 * self._kept
        written = ring if whole else records
        text = "".join(json.dumps(_plain(r), separators=(",", ":")) + "\n" for r in written)
        write = small_files.replace if whole else small_files.append
        try:
            self._write(write, self._path(uid), text.encode())
        except OSError as error:  # it explains only: the pod goes on
            logger.warning("journal of pod %s: %s", uid, error)
            return
        self._lines[uid] = len(ring) if whole else self._lines[uid] + len(records)

    def _write(self, write: Callable[[str, bytes], None], path: str, content: bytes) -> None:
        """Write to a pod's file, in a directory that may be missing. Raises OSError."""
        try:
            write(path, content)
        except FileNotFoundError:
            os.makedirs(self._directory, 0o700, exist_ok=True)
            write(path, content)


def _plain(record: Record) -> dict[str, object]:
    """Return it as `dataclasses.asdict` does, which copies all values."""
    return {name: getattr(record, name) for name in record.__slots__}
