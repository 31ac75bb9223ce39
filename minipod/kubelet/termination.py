"""Termination messages: the container's file, or the end of its log (kubelet-rules: 4096 bytes; 80
lines, 2048)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from minipod.kubelet.translate import TERMINATION_FILE, TERMINATION_POLICY
from minipod.runtime.service import ContainerState

if TYPE_CHECKING:
    from minipod.runtime.service import ContainerStatus

_FALLBACK = "FallbackToLogsOnError"
_FILE_LIMIT, _LOG_LIMIT, _LOG_LINES = 4096, 2048, 80


class Messages:
    """The termination messages of a pod's instances, each read once, or until its log is complete."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}  # by container id
        self.awaited: set[str] = set()  # ids whose message may not be the last

    def read(self, status: ContainerStatus) -> None:
        """Note what an ended instance left."""
        if status.state is not ContainerState.EXITED:
            return
        if status.id in self.texts and status.id not in self.awaited:
            return
        self.texts[status.id] = read_message(status)
        if awaits_log(status):  # what it said last may still be on its way
            self.awaited.add(status.id)
        else:
            self.awaited.discard(status.id)

    def forget(self, container_id: str) -> None:
        """The instance is gone."""
        self.texts.pop(container_id, None)
        self.awaited.discard(container_id)


def awaits_log(status: ContainerStatus) -> bool:
    """Whether the message may come from a log that is not complete yet."""
    policy = status.spec.annotations.get(TERMINATION_POLICY)
    return policy == _FALLBACK and bool(status.exit_code) and not status.log_complete


def read_message(status: ContainerStatus) -> str:
    """What the ended instance left; "" when nothing."""
    notes = status.spec.annotations
    text = _tail(notes.get(TERMINATION_FILE, ""), _FILE_LIMIT, from_start=True)
    if not text and status.exit_code and notes.get(TERMINATION_POLICY) == _FALLBACK:
        text = _log_end(status.log_path)
    return text.decode("utf-8", "replace")


def _tail(path: str, limit: int, *, from_start: bool) -> bytes:
    try:
        # O_NOFOLLOW: the container owns this file's content, never where it leads.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return b""
    try:
        start = 0 if from_start else max(0, os.fstat(fd).st_size - limit)
        return os.pread(fd, limit, start)
    finally:
        os.close(fd)


def _log_end(path: str) -> bytes:
    raw = _tail(path, 16 * _LOG_LIMIT, from_start=False).splitlines(keepends=True)
    texts = [line.split(b" ", 3) for line in raw[-_LOG_LINES:]]
    joined = b"".join(
        words[3] if words[2][:1] == b"F" else words[3].rstrip(b"\n")
        for words in texts
        if len(words) == 4
    )
    return joined[-_LOG_LIMIT:]
