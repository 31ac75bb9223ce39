"""Events: what one must say, by core/v1 and, with an eventTime, by events.k8s.io/v1 (pkg/apis/core/validation/events.go).

All of them as they are stored, with core/v1's names; the paths of errors are Kubernetes' own names of the fields.
"""

from __future__ import annotations

from minipod.api.messages import Errors, Object, invalid, required
from minipod.api.metadata import qualified_name
from minipod.api.validation_kinds import immutable

AT_MOST = {"reportingInstance": 128, "action": 128, "reason": 128}  # bytes; each is required
NOTE_MAX = 1024
_LEGACY = ("firstTimestamp", "lastTimestamp", "count")  # that only core/v1 sets

_fixed = immutable(
    "involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count", "type",
    "eventTime", "action", "related", "reportingComponent", "reportingInstance",
)  # fmt: skip


def validate_event(item: Object) -> Errors:
    """Yield what is wrong with an event of either version."""
    about = (item.get("involvedObject") or {}).get("namespace", "")
    own = item["metadata"].get("namespace", "")
    if not item.get("eventTime"):
        agrees = about == own or (not about and own == "default")
    else:
        agrees = bool(about) or own in ("default", "kube-system")
        yield from _who_and_why(item)
    if not agrees:
        yield invalid("involvedObject.namespace", about, "does not match event.namespace")


def _who_and_why(item: Object) -> Errors:
    controller = item.get("reportingComponent", "")
    if not controller:
        yield required("reportingController", "")
    if words := qualified_name(controller):
        yield invalid("reportingController", controller, words)
    for name, most in AT_MOST.items():
        if not item.get(name):
            yield required(name, "")
        yield from _short(item, name, most)
    yield from _short(item, "message", NOTE_MAX)


def _short(item: Object, name: str, most: int) -> Errors:
    if len(item.get(name, "").encode()) > most:
        yield invalid(name, "", f"can have at most {most} characters")


def validate_new_v1(item: Object) -> Errors:
    """Yield what else is wrong with one that is created by events.k8s.io/v1."""
    yield from _series(item)
    if not item.get("eventTime"):
        yield required("eventTime", "")
    if item.get("type", "") not in ("Normal", "Warning"):
        yield invalid("type", "", f"has invalid value: {item.get('type', '')}")
    for name in _LEGACY:
        if item.get(name):
            yield invalid(name, "", "needs to be unset")
    source = item.get("source") or {}
    if source.get("component") or source.get("host"):
        yield invalid("source", "", "needs to be unset")


def validate_v1_update(wanted: Object, current: Object) -> Errors:
    """Yield what else is wrong with one that is changed by events.k8s.io/v1: only its series may be."""
    if wanted.get("series") != current.get("series"):
        yield from _series(wanted)
    yield from _fixed(wanted, current)


def _series(item: Object) -> Errors:
    series = item.get("series")
    if series is None:
        return
    if series.get("count", 0) < 2:
        yield invalid("series.count", "", "should be at least 2")
    if not series.get("lastObservedTime"):
        yield required("series.lastObservedTime", "")
