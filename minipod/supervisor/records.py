"""The durable part of what the supervisor knows, below <run_dir>/containers/<id>/ (a tmpfs: no fsync).

    bundle.json   what to build, written by the runtime before it asks: a record precedes every resource
    state.json    {"pid", "start_time", "created_at", "started_at"}    once the process exists
    exit.json     {"code", "signal", "finished_at", "oom_killed", "reason", "message"}

Each is written to a temporary file and renamed: a reader sees a whole record or none.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TypeVar

from minipod.linux import process, small_files
from minipod.spec.codec import dumps, loads

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRecord:
    """A process that was made. *started_at* 0.0: parked before execve."""

    pid: int
    start_time: int  # clock ticks since boot, proc(5) stat field 22
    created_at: float
    started_at: float = 0.0
    console: int = 0  # st_dev of the pty's master: tells which of the pump's fds it is, at adoption


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """A process of the node, for the next supervisor to find."""

    pid: int
    start_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecord:
    """How a container ended. *code* is 128 + signal for a killed process."""

    code: int
    signal: int = 0
    finished_at: float
    oom_killed: bool = False
    reason: str = ""  # set where the code alone does not tell: StartError, ContainerStatusUnknown
    message: str = ""


def write_state(directory: str, record: StateRecord) -> None:
    small_files.replace(f"{directory}/state.json", dumps(record))


def write_exit(directory: str, record: ExitRecord) -> None:
    small_files.replace(f"{directory}/exit.json", dumps(record))


def read_state(directory: str) -> StateRecord | None:
    return _read(StateRecord, f"{directory}/state.json")


def read_exit(directory: str) -> ExitRecord | None:
    return _read(ExitRecord, f"{directory}/exit.json")


def write_service(run_dir: str, name: str, record: ServiceRecord) -> None:
    small_files.replace(f"{run_dir}/{name}.json", dumps(record))


def remove_service(run_dir: str, name: str) -> None:
    os.unlink(f"{run_dir}/{name}.json")


def read_service(run_dir: str, name: str) -> ServiceRecord | None:
    return _read(ServiceRecord, f"{run_dir}/{name}.json")


def _read(cls: type[R], path: str) -> R | None:
    try:
        with open(path, "rb") as f:
            return loads(cls, f.read())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def plain(record: ExitRecord) -> dict[str, object]:
    """Return *record* as JSON data, for an event."""
    return {name: getattr(record, name) for name in ExitRecord.__slots__}


def open_alive(record: StateRecord | ServiceRecord) -> int:
    """Return a pidfd of the recorded process; -1 when it has ended. The pidfd comes first: it stays that process', whoever gets the pid."""
    try:
        pidfd = process.pidfd_open(record.pid)
    except ProcessLookupError:
        return -1
    if alive(record.pid, record.start_time):
        return pidfd
    os.close(pidfd)
    return -1


def alive(pid: int, start_time: int) -> bool:
    """Whether *pid* is still the process that was recorded, and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            state = f.read().rpartition(b")")[2].split()[0]
        return process.start_time(pid) == start_time and state not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def unknown() -> ExitRecord:
    """An end that none of our processes saw (kubelet: ContainerStatusUnknown, 137)."""
    return ExitRecord(
        code=137,
        finished_at=time.time(),
        reason="ContainerStatusUnknown",
        message="The container could not be located when the node's processes came back",
    )
