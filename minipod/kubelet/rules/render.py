"""Statuses to the raw form of the wire, and back from a stored status."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from minipod.kubelet.rules.pods import Raw, parse_time
from minipod.kubelet.rules.status import ContainerStatus, Running, Terminated, Waiting

PREFIX = "minipod://"  # of status.containerStatuses[].containerID


def timestamp(seconds: float) -> str | None:
    """RFC 3339 in whole seconds, UTC; None for "not yet"."""
    return _whole(int(seconds)) if seconds else None


@lru_cache(maxsize=256)
def _whole(seconds: int) -> str:
    """The same times are rendered again with each status of a pod."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(seconds: float) -> str:
    """RFC 3339 in microseconds (MicroTime)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def container_status(status: ContainerStatus) -> dict[str, Any]:
    """One entry of status.containerStatuses."""
    return {
        "name": status.name,
        "state": _state(status.state),
        "lastState": {} if status.last is None else _state(status.last),
        "ready": status.ready,
        "restartCount": status.restart_count,
        "image": status.image,
        "imageID": status.image_id,
        **({"containerID": PREFIX + status.container_id} if status.container_id else {}),
        "started": status.started,
        **({"allocatedResources": dict(status.allocated)} if status.allocated else {}),
        **({"resources": dict(status.resources)} if status.resources is not None else {}),
    }


def parse_status(raw: Raw) -> ContainerStatus:
    """A stored entry as a value."""
    state = _parse(raw.get("state") or {})
    last = _parse(raw.get("lastState") or {})
    return ContainerStatus(
        name=raw["name"],
        state=state or Waiting(reason="ContainerCreating"),
        last=last if isinstance(last, Terminated) else None,
        ready=bool(raw.get("ready")),
        started=bool(raw.get("started")),
        restart_count=int(raw.get("restartCount", 0)),
        image=raw.get("image", ""),
        image_id=raw.get("imageID", ""),
        container_id=raw.get("containerID", "").removeprefix(PREFIX),
        allocated=raw.get("allocatedResources"),
        resources=raw.get("resources"),
    )


def _state(state: Waiting | Running | Terminated) -> dict[str, Any]:
    match state:
        case Waiting(reason=reason, message=message):
            return {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        case Running(started_at=started):
            return {"running": {"startedAt": timestamp(started)}}
        case Terminated():
            return {"terminated": _terminated(state)}


def _terminated(ended: Terminated) -> dict[str, Any]:
    raw: dict[str, Any] = {"exitCode": ended.exit_code, "reason": ended.reason}
    if ended.message:
        raw["message"] = ended.message
    raw["startedAt"] = timestamp(ended.started_at)
    raw["finishedAt"] = timestamp(ended.finished_at)
    if ended.container_id:
        raw["containerID"] = PREFIX + ended.container_id
    return raw


def _parse(raw: Raw) -> Waiting | Running | Terminated | None:
    if part := raw.get("waiting"):
        return Waiting(reason=part.get("reason", ""), message=part.get("message", ""))
    if part := raw.get("running"):
        return Running(started_at=parse_time(part.get("startedAt")) or 0.0)
    if part := raw.get("terminated"):
        return Terminated(
            exit_code=part.get("exitCode", 0),
            reason=part.get("reason", ""),
            message=part.get("message", ""),
            signal=part.get("signal", 0),
            started_at=parse_time(part.get("startedAt")) or 0.0,
            finished_at=parse_time(part.get("finishedAt")) or 0.0,
            container_id=part.get("containerID", "").removeprefix(PREFIX),
        )
    return None
