"""The pod annotations that minipod itself reads, their ranges, and their parsing.

    minipod.dev/crash-loop-initial   the first delay of a crash loop, a Go duration ("1s"); default 10s
    minipod.dev/crash-loop-max       its longest delay; default 5m0s

Both at most 300 s, as for the kubelet's crashLoopBackOff.maxContainerRestartPeriod. Admission refuses what
can't be read, so a reader may fall back to the default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from minipod.api.fields import FieldError

CRASH_LOOP_INITIAL = "minipod.dev/crash-loop-initial"
CRASH_LOOP_MAX = "minipod.dev/crash-loop-max"
CRASH_LOOP_LIMIT = 300.0  # seconds

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float | None:
    """Return the seconds of a Go duration ("1m30s", "500ms"); None for what is none."""
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def crash_loop(annotations: Mapping[str, str], key: str, default: float) -> float:
    """Return the delay that *key* asks for, in seconds; *default* where it is not given."""
    found = parse_duration(annotations.get(key, ""))
    return default if found is None else min(found, CRASH_LOOP_LIMIT)


def check(annotations: Mapping[str, str]) -> Iterator[FieldError]:
    """Yield what is wrong with our annotations."""
    for key in (CRASH_LOOP_INITIAL, CRASH_LOOP_MAX):
        if key not in annotations:
            continue
        found = parse_duration(annotations[key])
        if found is None or found > CRASH_LOOP_LIMIT:
            words = f'Invalid value: "{annotations[key]}": must be a duration of at most 5m0s, such as "1s"'
            yield FieldError(f"metadata.annotations[{key}]", words)
