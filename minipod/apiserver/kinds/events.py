"""Events, once stored and served under two names: v1, and events.k8s.io/v1 with its own names for the same fields."""

from __future__ import annotations

from typing import Any

from minipod.api import validation_events as rules
from minipod.apiserver.resources import Printer, Resource, Strategy
from minipod.apiserver.table import age

Object = dict[str, Any]

# core/v1's name -> events.k8s.io/v1's (pkg/apis/events/v1/conversion.go)
NAMES = {
    "involvedObject": "regarding", "message": "note", "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp", "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount", "reportingComponent": "reportingController",
}  # fmt: skip
CORE_NAMES = {new: old for old, new in NAMES.items()}


def from_core(event: Object) -> Object:
    """Return a stored (v1) event as events.k8s.io/v1."""
    return {**{NAMES.get(k, k): v for k, v in event.items()}, "apiVersion": "events.k8s.io/v1"}


def to_core(event: Object) -> Object:
    """Return an events.k8s.io/v1 event as it is stored."""
    return {**{CORE_NAMES.get(k, k): v for k, v in event.items()}, "apiVersion": "v1"}


def event_row(event: Object) -> list[Any]:
    """Return the cells of one stored event (printEvent)."""
    about, source = event.get("involvedObject") or {}, event.get("source") or {}
    series = event.get("series") or {}
    moment = event.get("eventTime") or event["metadata"].get("creationTimestamp")
    first = event.get("firstTimestamp") or moment
    last = series.get("lastObservedTime") or event.get("lastTimestamp") or first
    count = series.get("count") or event.get("count") or 1
    where = ", ".join(filter(None, (source.get("component"), source.get("host"))))
    return [
        age(last), event.get("type", ""), event.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}", about.get("fieldPath", ""),
        where or event.get("reportingComponent", ""), event.get("message", "").strip(), age(first), str(count),
        event["metadata"]["name"],
    ]  # fmt: skip


PRINTER = Printer(
    columns=(
        ("Last Seen", 0), ("Type", 0), ("Reason", 0), ("Object", 0), ("Subobject", 1), ("Source", 1),
        ("Message", 0), ("First Seen", 1), ("Count", 1), ("Name", 1),
    ),
    row=event_row,
)  # fmt: skip

FIELDS = (
    "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
    "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
    "reason", "reportingComponent", "source", "type",
)  # fmt: skip


def _new_name(path: str) -> str:
    first, dot, rest = path.partition(".")
    return NAMES.get(first, first) + dot + rest


EVENT = Resource(
    plural="events",
    kind="Event",
    type="core.v1.Event",
    short_names=("ev",),
    durable=False,
    fields=FIELDS,
    strategy=Strategy(validate=rules.validate_event),
    printer=PRINTER,
)

EVENT_V1 = Resource(
    plural="events",
    kind="Event",
    type="events.v1.Event",
    group="events.k8s.io",
    short_names=("ev",),
    durable=False,
    fields=tuple(_new_name(path) for path in FIELDS if path != "source"),
    strategy=Strategy(
        validate=rules.validate_event,
        validate_new=rules.validate_new_v1,
        validate_update=rules.validate_v1_update,
    ),
    printer=PRINTER,
    to_storage=to_core,
    from_storage=from_core,
)

RESOURCES = (EVENT, EVENT_V1)
