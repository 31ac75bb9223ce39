"""Taking over what another supervisor left: containers, daemon and prober live on when it dies.

Containers are found by their records and known by pid + start time. They are not our children, so their ends are seen on pidfds
and their exit codes come from the proc connector, subscribed to before anyone is looked at. An end while no supervisor lived is
ContainerStatusUnknown (137), as a kubelet reports it. The old pump is asked to stop only after the idle read ends are open,
so no byte is lost between two pumps; the masters of its ptys are taken out of it first.

Execs are ended, not adopted: whoever asked for one has heard that it is lost (`runtime.exec.Execs.lost`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time

from minipod.errors import MinipodError
from minipod.linux import procconn, process
from minipod.spec.bundle import Bundle
from minipod.spec.codec import loads
from minipod.supervisor import exec_page, records
from minipod.supervisor.children import Container, Phase
from minipod.supervisor.records import ExitRecord, StateRecord
from minipod.supervisor.server import Supervisor
from minipod.supervisor.setups import Setups
from minipod.supervisor.streams import Streams

logger = logging.getLogger(__name__)

PUMP_DEADLINE = 5.0  # seconds for the old pump to write what it has


class Adoption:
    """Watches processes that are not our children, as long as there are any."""

    def __init__(self, supervisor: Supervisor, setups: Setups) -> None:
        self._s = supervisor
        self._setups = setups
        self._codes: dict[int, int] = {}  # pid -> wait status, from the proc connector
        self._watched = 0
        self._connector: procconn.ProcConnector | None = None

    def adopt_all(self) -> None:
        """Adopt every container that has a record; a broken record stops no other."""
        directory = f"{self._s.instance.run_dir}/containers"
        try:
            found = sorted(os.listdir(directory))
        except FileNotFoundError:
            return
        if found:
            self._listen()
        masters = self._masters()
        for name in found:
            try:
                self._adopt(f"{directory}/{name}", masters)
            except (OSError, ValueError, MinipodError):
                logger.exception("container %s could not be adopted", name)
        self._stop_old_pump()
        self._close_unused(masters)
        self._silence_if_idle()

    def end_execs(self, left: list[tuple[int, int]]) -> None:
        """Kill what a dead supervisor's execs, (pid, noted time) each, have in their sessions; after `adopt_all`.

        As at the end of any exec, what made a session of its own goes on, and so does what an exec left behind that had ended.
        """
        sessions = {pid for pid, noted in left if exec_page.runs(pid, noted)}
        if not sessions:
            return
        running = [c for c in self._s.tables.containers.values() if c.exit is None]
        groups = [c.bundle.cgroup for c in running]
        killed: set[int] = set()
        found = set(sessions)  # also what has moved out of its cgroup
        while found:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed |= found
            listed = {pid for group in groups for pid in self._s.hierarchy.procs(group)}
            found = {pid for pid in listed - killed if _session(pid) in sessions}
        logger.info("ended %d execs of the supervisor before", len(sessions))

    def _adopt(self, directory: str, masters: dict[int, int]) -> None:
        state, end = records.read_state(directory), records.read_exit(directory)
        if state is None or not (state.started_at or end):
            return  # parked, or not even that: nobody can start it any more, the runtime removes what is left
        with open(f"{directory}/bundle.json", "rb") as f:
            bundle = loads(Bundle, f.read())
        streams = Streams(
            directory=directory,
            log_path=bundle.log_path,
            tty=bundle.process.tty,
            stdin=bundle.process.stdin,
        )
        container = Container(id=bundle.id, bundle=bundle, streams=streams)
        if not streams.tty:
            streams.open()
        elif state.console in masters:
            streams.set_console(masters.pop(state.console))
        self._s.tables.containers[bundle.id] = container
        container.pid, container.start_time = state.pid, state.start_time
        container.created_at, container.started_at = state.created_at, state.started_at
        container.exit = end
        if end is not None:
            container.phase = Phase.EXITED
        else:
            self._watch(container, state)

    def _watch(self, container: Container, state: StateRecord) -> None:
        container.phase = Phase.RUNNING
        container.pidfd = records.open_alive(state)
        if container.pidfd < 0:
            self._setups.ends.container_ended(container, records.unknown())
            return
        self._watched += 1
        self._s.watch(container.pidfd, lambda: self._ended(container))

    def _ended(self, container: Container) -> None:
        self._s.unwatch(container.pidfd)
        self._watched -= 1
        self._read_connector()
        status = self._codes.pop(container.pid, None)
        record = records.unknown() if status is None else from_status(status)
        self._setups.ends.container_ended(container, record)
        self._silence_if_idle()

    # -- the proc connector

    def _listen(self) -> None:
        try:
            self._connector = procconn.ProcConnector()
            self._connector.listen()
        except OSError as e:
            logger.warning("no exit codes of adopted containers: proc connector: %s", e)
            self._connector = None
            return
        self._s.watch(self._connector.fileno(), self._read_connector)

    def _read_connector(self) -> None:
        if self._connector is None:
            return
        mine = {c.pid for c in self._s.tables.containers.values() if c.exit is None}
        for event in self._connector.read():
            if event.pid in mine:
                self._codes[event.pid] = event.exit_code

    def _silence_if_idle(self) -> None:
        """Every fork and exit of the machine is told to a listener: stop when there is no need."""
        if self._connector is not None and not self._watched:
            self._s.unwatch(self._connector.fileno())
            self._connector.close()
            self._connector = None

    # -- the old pump

    def _masters(self) -> dict[int, int]:
        """Copy the pty masters out of the old pump, by the device number of their devpts."""
        pidfd = self._old_pump()
        if pidfd < 0:
            return {}
        found: dict[int, int] = {}
        record = records.read_service(self._s.instance.run_dir, "pump")
        assert record is not None
        with contextlib.suppress(FileNotFoundError):  # it ends just now
            for name in os.listdir(f"/proc/{record.pid}/fd"):
                if (fd := _master(pidfd, record.pid, name)) >= 0:
                    found[os.fstat(fd).st_dev] = fd
        os.close(pidfd)
        return found

    def _stop_old_pump(self) -> None:
        pidfd = self._old_pump()
        if pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            process.pidfd_send_signal(pidfd, signal.SIGTERM)
        if not process.await_end(pidfd, PUMP_DEADLINE):
            process.kill(pidfd, PUMP_DEADLINE)
        os.close(pidfd)

    def _old_pump(self) -> int:
        record = records.read_service(self._s.instance.run_dir, "pump")
        return -1 if record is None else records.open_alive(record)

    def _close_unused(self, masters: dict[int, int]) -> None:
        for fd in masters.values():
            os.close(fd)


def _session(pid: int) -> int:
    """Return the session of *pid*, -1 when it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def _master(pidfd: int, pid: int, name: str) -> int:
    """Copy descriptor *name* of the old pump, which goes on working; -1 when it is no pty's master, or closed meanwhile."""
    try:
        if os.readlink(f"/proc/{pid}/fd/{name}").endswith("ptmx"):
            return process.pidfd_getfd(pidfd, int(name))
    except OSError:
        pass
    return -1


def from_status(status: int) -> ExitRecord:
    """Turn a wait status (wait(2)) into how Kubernetes counts."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return ExitRecord(code=128 + number, signal=number, finished_at=time.time())
    return ExitRecord(code=os.WEXITSTATUS(status), finished_at=time.time())
