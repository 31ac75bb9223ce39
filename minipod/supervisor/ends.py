"""The end of a container: its record, who is told of it, and what is left in its cgroup, in this order."""

from __future__ import annotations

import logging
from dataclasses import replace

from minipod.supervisor import protocol, records
from minipod.supervisor.children import Container, Phase
from minipod.supervisor.records import ExitRecord
from minipod.supervisor.server import Supervisor

logger = logging.getLogger(__name__)


class Ends:
    """Of the containers of one supervisor, its own and those that it has adopted."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._s = supervisor

    def container_ended(self, made: Container, record: ExitRecord) -> None:
        """Record the exit, tell of it, let go of the process, and clear its cgroup. Idempotent."""
        if made.phase is Phase.EXITED:
            return
        cgroup = made.bundle.cgroup
        oom = False
        try:
            oom = self._s.hierarchy.oom_kills(cgroup) > 0
        except OSError as e:
            logger.warning("cgroup %s at the end of %s: %s", cgroup, made.id, e)
        if made.error is not None:  # execve failed: the command can't be started
            record = replace(
                record, code=128, signal=0, reason="StartError",
                message=protocol.error_from_message(made.error).message,
            )  # fmt: skip
        made.exit = replace(record, oom_killed=oom)
        made.phase = Phase.EXITED
        records.write_exit(made.bundle.directory, made.exit)
        self._s.broadcast({"event": "exited", "id": made.id, **records.plain(made.exit)})
        self._s.tell_pump({"op": "finish", "id": made.id})
        if made.sync is not None:
            self._s.unwatch(made.sync)
        made.close()
        self._clear(cgroup)

    def _clear(self, cgroup: str) -> None:
        """Remove the cgroup of a container that has ended, or kill what lives on in it (it shared a pid namespace) and leave it."""
        try:
            if not self._s.hierarchy.remove_empty(cgroup):
                self._s.hierarchy.kill(cgroup)
        except OSError as e:
            logger.warning("cgroup %s, whose container has ended: %s", cgroup, e)
