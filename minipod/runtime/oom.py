"""Which process the kernel killed for memory, in which container: told by /dev/kmsg, the only place that names it.

A container whose first process is killed also ends, and its exit says OOMKilled; this is for the kills that it survives (a
child), which leave no other trace. Without CAP_SYSLOG there are no such events; nothing else depends on them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from minipod.linux import kmsg

logger = logging.getLogger(__name__)

# mm/oom_kill.c, dump_oom_victim: since 5.0 on one line
_KILL = re.compile(
    r"oom-kill:.*\btask_memcg=(?P<cgroup>[^,]*),task=(?P<name>.*),pid=(?P<pid>\d+),uid=\d+$"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OomKill:
    """One kill: *cgroup* is the victim's path in the memory hierarchy, *pid* the host's."""

    cgroup: str
    process: str
    pid: int


def parse(text: str) -> OomKill | None:
    """Return what a line of the kernel's log says of a kill, None for any other line."""
    match = _KILL.search(text)
    if match is None:
        return None
    return OomKill(cgroup=match["cgroup"], process=match["name"], pid=int(match["pid"]))


class OomWatch:
    """Calls back for every kill from now on. `close` when done."""

    def __init__(self, callback: Callable[[OomKill], None]) -> None:
        self._callback = callback
        self._fd = -1

    def start(self) -> None:
        """Begin; a machine that does not let us read its log is told once. Idempotent."""
        if self._fd >= 0:
            return
        try:
            self._fd = kmsg.open_at_end()
        except OSError as e:
            logger.warning("OOM kills of children are not told: /dev/kmsg: %s", e.strerror)
            return
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        for text in kmsg.read_messages(self._fd):
            if (kill := parse(text)) is not None:
                self._callback(kill)
