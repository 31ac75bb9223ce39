"""The annotations that set the pace of probes, which Kubernetes has no field for. No I/O.

    minipod.dev/[KIND-]probe-period-ms[.CONTAINER]          the period in milliseconds, in place of periodSeconds
    minipod.dev/[KIND-]probe-start-period-ms[.CONTAINER]    the period until the first success (readiness, startup)

KIND is liveness, readiness or startup. The most exact one counts: kind and container, then container, then kind, then neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from minipod.api.fields import FieldError
from minipod.api.messages import invalid

PREFIX = "minipod.dev/"
_PERIOD, _START = "probe-period-ms", "probe-start-period-ms"
_SHORTEST, _LONGEST = 10, 3_600_000  # milliseconds
_PROBE_KEY = re.compile(
    r"minipod\.dev/(?:(?P<kind>liveness|readiness|startup)-)?probe-(?P<start>start-)?period-ms(?:\.(?P<container>.+))?"
)


def probe_periods(
    annotations: Mapping[str, str], container: str, kind: str
) -> tuple[float | None, float | None]:
    """Period and start period of a probe in seconds, None where no annotation says one. *kind* as in `KIND`."""
    start = None if kind == "liveness" else _most_exact(annotations, _START, container, kind)
    return _most_exact(annotations, _PERIOD, container, kind), start


def check(metadata: Mapping[str, Any], containers: set[str]) -> Iterator[FieldError]:
    """Everything that is wrong with our annotations of a pod with these *containers*."""
    for key, value in (metadata.get("annotations") or {}).items():
        if not key.startswith(PREFIX) or "probe-" not in key:
            continue
        path = f"metadata.annotations[{key}]"
        match = _PROBE_KEY.fullmatch(key)
        if match is None:
            known = (
                f"[liveness-|readiness-|startup-]{_PERIOD} or {_START}, then .CONTAINER or nothing"
            )
            yield invalid(path, value, f"unknown annotation: after {PREFIX} comes {known}")
        elif match["container"] and match["container"] not in containers:
            yield invalid(path, value, f'no container "{match["container"]}" in this pod')
        elif match["start"] and match["kind"] == "liveness":
            yield invalid(
                path, value, "a liveness probe has no start period: it begins as a success"
            )
        elif not value.isdecimal() or not _SHORTEST <= int(value) <= _LONGEST:
            words = f"must be milliseconds between {_SHORTEST} and {_LONGEST}, inclusive"
            yield invalid(path, value, words)


def _most_exact(
    annotations: Mapping[str, str], name: str, container: str, kind: str
) -> float | None:
    for key in (f"{kind}-{name}.{container}", f"{name}.{container}", f"{kind}-{name}", name):
        value = annotations.get(PREFIX + key, "")
        if value.isdecimal() and int(value) >= _SHORTEST:
            return int(value) / 1000
    return None
