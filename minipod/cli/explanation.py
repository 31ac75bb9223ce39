"""Why a pod is as it is, in words: the chain of causes from its status, its probes and the journal. Values in, lines out.

    pod default/web is running, not ready, for 35s
      container app waits: CrashLoopBackOff; it starts again at 12:01:35 (in 12s)
        because it ended at 12:00:55 with exit code 137 (Error), 3s after its start; 3 restarts
          because it was killed at 12:00:54: Container app failed liveness probe, will be restarted
            because its liveness probe failed at 12:00:54: HTTP probe failed with statuscode: 500
    decisions, newest last:
      ...

The status says what is; a container that ended points to the journal's kill before it, a kill to the probe before it. No clock:
*now* is an argument. Times are UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]

_DECISIONS = 8  # lines of the journal: one screen in all
_WIDTH = 200  # characters of a message; outputs may be pages
_KILL_TO_END = 3.0  # seconds that a container's end may lie before the kill's record: clocks are in whole seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about one pod: its object, its journal and its probes as the node tells them."""

    pod: Object
    records: Sequence[Object] = ()
    probes: Sequence[Object] = ()


def explain(facts: Facts, now: float) -> list[str]:
    """One screen."""
    pod = facts.pod
    meta, status = pod["metadata"], pod.get("status") or {}
    lines = [f"pod {meta.get('namespace', 'default')}/{meta['name']} {_verdict(pod, now)}"]
    lines += _indented(_of_pod(facts, now), 1)
    for name in _containers(pod):
        causes = list(_of_container(facts, name, now))
        lines += _indented(causes, 1)
    if len(lines) == 1 and not status.get("startTime"):
        lines += _indented(["the node has not looked at it yet"], 1)
    if facts.records:
        lines.append("decisions, newest last:")
        lines += [f"  {_clock(r['at'])}  {_record(r)}" for r in facts.records[-_DECISIONS:]]
    return lines


# -- the pod


def _verdict(pod: Object, now: float) -> str:
    meta, status = pod["metadata"], pod.get("status") or {}
    phase = status.get("phase", "Pending")
    if meta.get("deletionTimestamp"):
        asked = _time(meta["deletionTimestamp"]) - (meta.get("deletionGracePeriodSeconds") or 0)
        return f"is being deleted, for {age(now - asked)}"
    if phase in ("Failed", "Succeeded"):
        return f"has {'failed' if phase == 'Failed' else 'succeeded'}{_why(status)}"
    ready = _condition(pod, "Ready")
    changed = (ready or {}).get("lastTransitionTime")
    since = f", for {age(now - _time(changed))}" if changed else ""
    if ready and ready["status"] == "True":
        return f"is ready{since}"
    if phase == "Pending":
        begin = status.get("startTime") or meta.get("creationTimestamp")
        return "is pending" + (f", for {age(now - _time(begin))}" if begin else "")
    return f"is running, not ready{since}"


def _why(status: Object) -> str:
    words = [str(status[key]) for key in ("reason", "message") if status.get(key)]
    return f": {_short(': '.join(words))}" if words else ""


def _of_pod(facts: Facts, now: float) -> Iterator[str]:
    """Causes that belong to no container."""
    pod = facts.pod
    if pod["metadata"].get("deletionTimestamp"):
        record = _last(facts, lambda r: r["decision"] == "terminate")
        if record is not None:
            grace = record["because"].get("grace period", "")
            yield f"it is being stopped since {_clock(record['at'])}, grace period {grace}"
        return
    started = _condition(pod, "PodReadyToStartContainers")
    held = _last(facts, lambda r: r["rule"] == "sync.PodSync")
    if held is not None and (started is None or started["status"] != "True"):
        message = _short(held["because"].get("message", ""))
        yield f"{held['decision']} at {_clock(held['at'])} ({age(now - held['at'])} ago): {message}"
    for gate in (pod.get("spec") or {}).get("readinessGates") or ():
        found = _condition(pod, gate["conditionType"])
        if found is None or found["status"] != "True":
            told = "does not exist" if found is None else f"is {found['status']}{_why(found)}"
            yield f"readiness gate {gate['conditionType']} {told}"


def _condition(pod: Object, kind: str) -> Object | None:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == kind), None)


# -- a container


def _containers(pod: Object) -> list[str]:
    spec = pod.get("spec") or {}
    return [c["name"] for group in ("initContainers", "containers") for c in spec.get(group) or ()]


def _status_of(pod: Object, name: str) -> tuple[Object | None, bool]:
    """Its status, and whether it is an init container."""
    status = pod.get("status") or {}
    for key in ("initContainerStatuses", "containerStatuses"):
        for found in status.get(key) or ():
            if found["name"] == name:
                return found, key == "initContainerStatuses"
    return None, False


def _of_container(facts: Facts, name: str, now: float) -> Iterator[str]:
    """The chain of one container, the first line what is; nothing when all is well and always was."""
    status, init = _status_of(facts.pod, name)
    if status is None:
        return
    state = status.get("state") or {}
    who = f"{'init container' if init else 'container'} {name}"
    if waiting := state.get("waiting"):
        yield from _waiting(facts, status, waiting, who, now)
    elif ended := state.get("terminated"):
        if not init or ended.get("exitCode"):
            yield f"{who} {_ended(ended)}"
            yield from _killed(facts, name, ended)
    elif running := state.get("running"):
        yield from _running(facts, status, running, who, now)


def _waiting(facts: Facts, status: Object, waiting: Object, who: str, now: float) -> Iterator[str]:
    reason, name = waiting.get("reason", "ContainerCreating"), status["name"]
    if reason == "PodInitializing":
        return  # the init container says more
    backoff = _last(facts, lambda r: r["container"] == name and r["decision"] == "back off")
    if reason == "CrashLoopBackOff" and backoff is not None:
        until = _time(backoff["because"]["until"])
        when = f"in {age(until - now)}" if until > now else "now"
        delay = backoff["because"]["delay"]
        yield f"{who} waits: {reason}, {delay}; it starts again at {_clock(until)} ({when})"
    else:
        message = f": {_short(waiting['message'])}" if waiting.get("message") else ""
        yield f"{who} waits: {reason}{message}"
    if reason == "ImagePullBackOff":
        yield from _not_pulled(facts, name)
    yield from _before(facts, status)


def _not_pulled(facts: Facts, name: str) -> Iterator[str]:
    tried = _last(facts, lambda r: r["container"] == name and r["decision"] == "ErrImagePull")
    if tried is not None:
        yield f"because at {_clock(tried['at'])} it {_short(tried['because'].get('message', ''))}"
    yield "images that are here: minipod image ls; minipod image build makes the built-in ones, minipod image load takes archives"


def _running(facts: Facts, status: Object, running: Object, who: str, now: float) -> Iterator[str]:
    name, since = status["name"], _time(running["startedAt"])
    for kind in ("startup", "readiness"):
        probe = next(
            (p for p in facts.probes if p["container"] == name and p["kind"] == kind), None
        )
        passed = status.get("started" if kind == "startup" else "ready")
        if probe is None or passed or (probe["waits_for"] and not probe["attempted_at"]):
            continue
        yield f"{who} runs since {_clock(since)}, and is not {'started' if kind == 'startup' else 'ready'}"
        yield from _probe(probe, now)
        return
    if not status.get("ready"):
        yield f"{who} runs since {_clock(since)}, and is not ready"
    elif status.get("restartCount"):
        yield f"{who} is ready, and runs since {_clock(since)} ({age(now - since)})"
        yield from _before(facts, status)


def _probe(probe: Object, now: float) -> Iterator[str]:
    what = f"its {probe['kind']} probe ({probe['what']}, every {probe['period']:g} s)"
    if not probe["attempted_at"]:
        yield f"because {what} has not run yet"
    elif probe["last"] == "failure":
        at = probe["attempted_at"]
        yield (
            f"because {what} failed {probe['run']} times in a row, the last time {age(now - at)} ago"
            f" (failureThreshold {probe['threshold']})"
        )
        yield f"because of: {_short(probe['output'])}"
    elif probe["last"] is None:
        yield f"because {what} can't be made: {_short(probe['output'])}"
    else:
        yield f"because {what} succeeded {probe['run']} of {probe['threshold']} times"


def _before(facts: Facts, status: Object) -> Iterator[str]:
    """Why the instance before this one is no more."""
    ended = (status.get("lastState") or {}).get("terminated")
    if ended is None:
        return
    count = status.get("restartCount", 0)
    restarts = f"; {count} restart{'' if count == 1 else 's'}" if count else ""
    yield f"because it {_ended(ended)}{restarts}"
    yield from _killed(facts, status["name"], ended)


def _ended(ended: Object) -> str:
    reason = f" ({ended['reason']})" if ended.get("reason") else ""
    words = f"ended with exit code {ended.get('exitCode', 0)}{reason}"
    if ended.get("finishedAt"):
        finished = _time(ended["finishedAt"])
        words += f" at {_clock(finished)}"
        if ended.get("startedAt"):
            words += f", {age(finished - _time(ended['startedAt']))} after its start"
    message = (ended.get("message") or "").strip()
    return words + (f": {_short(message)}" if message else "")


def _killed(facts: Facts, name: str, ended: Object) -> Iterator[str]:
    """The kill that ended an instance, and the probe that asked for it."""
    if not ended.get("finishedAt") or not ended.get("startedAt"):
        return
    begin, end = _time(ended["startedAt"]), _time(ended["finishedAt"]) + _KILL_TO_END
    kill = _last(
        facts,
        lambda r: r["container"] == name and r["decision"] == "kill" and begin <= r["at"] <= end,
    )
    if kill is None:
        return
    yield f"because it was killed at {_clock(kill['at'])}: {kill['because'].get('message', '')}"
    cause = kill["because"].get("cause", "")
    failure = _last(
        facts,
        lambda r: (
            r["container"] == name
            and r["decision"] == f"{cause} is failure"
            and r["at"] <= kill["at"] + 1
        ),
    )
    if failure is not None:
        output = _short(failure["because"].get("output", ""))
        yield f"because its {cause} probe failed at {_clock(failure['at'])}: {output}"


# -- words


def age(seconds: float) -> str:
    """A duration as kubectl writes ages."""
    left = max(0, int(seconds))
    for size, unit, below, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):  # fmt: skip
        if left >= size:
            rest = left % size // below
            return f"{left // size}{unit}{f'{rest}{small}' if rest else ''}"
    return f"{left}s"


def _indented(causes: Sequence[str] | Iterator[str], depth: int) -> list[str]:
    """Each `because` one step deeper than what it explains."""
    lines = []
    level = depth
    for cause in causes:
        level = level + 1 if cause.startswith("because") else depth
        lines.append("  " * level + cause)
    return lines


def _record(record: Object) -> str:
    facts = ", ".join(f"{key}: {_short(value)}" for key, value in record["because"].items())
    whom = f"{record['container']}: " if record["container"] else ""
    return _short(f"{whom}{record['decision']}{f' ({facts})' if facts else ''}  [{record['rule']}]")


def _last(facts: Facts, matches: Any) -> Object | None:
    return next((r for r in reversed(facts.records) if matches(r)), None)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")
