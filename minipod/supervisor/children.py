"""The processes that the supervisor watches: set-ups under way, containers, execs; and their reaping.

A process is known by the pid that its set-up told. One that ends before that was read is remembered in `early`
until the set-up's messages say whose it was.
"""

from __future__ import annotations

import enum
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minipod.cgroups.hierarchy import Hierarchy
from minipod.linux import process
from minipod.spec.bundle import Bundle
from minipod.supervisor import records
from minipod.supervisor.records import ExitRecord
from minipod.supervisor.streams import Streams
from minipod.supervisor.timers import Timer

if TYPE_CHECKING:
    from minipod.init.entrance import Entrance
    from minipod.supervisor.server import Client


class Phase(enum.Enum):
    """Where a process is on its way; moves only down this list."""

    SETTING_UP = "setting up"
    CREATED = "created"  # parked before execve
    STARTING = "starting"  # told to go, execve not seen yet
    RUNNING = "running"
    EXITED = "exited"


@dataclass(slots=True, kw_only=True)
class Process:
    """A container's main process, or an exec's."""

    id: str
    phase: Phase = Phase.SETTING_UP
    sync: socket.socket | None = None
    pid: int = 0
    start_time: int = 0
    pidfd: int = -1
    setup_pidfd: int = -1  # the first process of its set-up, while that goes on
    ready: bool = False  # everything that can fail has been done
    timer: Timer | None = None  # its set-up's deadline
    held: list[int] = field(
        default_factory=list
    )  # fds of the long way, while the short one may fail
    long_way: Callable[[], None] | None = None
    starter: tuple[Client, int] | None = None  # whose request it is to start it when it is set up
    told: bool = False  # "go"
    created_at: float = 0.0
    started_at: float = 0.0
    exit: ExitRecord | None = None
    warnings: list[str] = field(default_factory=list)
    error: dict[str, object] | None = None  # what the set-up said before it died

    def found(self, pid: int) -> None:
        """The process exists: hold it by pidfd and start time, so that no other is taken for it."""
        self.pid = pid
        self.start_time = process.start_time(pid)
        self.pidfd = process.pidfd_open(pid)

    def let_go(self) -> None:
        """The long way will not be needed. Idempotent."""
        self.long_way = None
        for fd in self.held:
            os.close(fd)
        self.held.clear()

    def send_signal(self, number: int) -> bool:
        """Signal exactly this process; False when it is gone."""
        if self.pidfd < 0 or self.phase is Phase.EXITED:
            return False
        try:
            process.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def set_up(self) -> None:
        """The set-up is over, well or not: its deadline no longer holds. Idempotent."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.setup_pidfd >= 0:
            os.close(self.setup_pidfd)
            self.setup_pidfd = -1

    def close(self) -> None:
        """Close what is held. Idempotent."""
        self.set_up()
        self.let_go()
        if self.sync is not None:
            self.sync.close()
            self.sync = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


@dataclass(slots=True, kw_only=True)
class Container(Process):
    bundle: Bundle
    streams: Streams
    drained: bool = False
    entrance: Entrance | None = None  # of its execs, after the first one

    def close(self) -> None:
        if self.entrance is not None:
            self.entrance.close()
            self.entrance = None
        Process.close(self)

    def mount_namespace(self) -> list[int]:
        """Return a new fd of the mount namespace of its process, which is set up and not reaped; none where it has ended."""
        try:
            return [os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)]
        except OSError:
            return []

    def write_state(self) -> None:
        """Write down what another supervisor has to know of it."""
        console = 0
        if self.streams.tty and self.streams.readers:
            console = os.fstat(self.streams.readers[0]).st_dev
        state = records.StateRecord(
            pid=self.pid,
            start_time=self.start_time,
            created_at=self.created_at,
            started_at=self.started_at,
            console=console,
        )
        records.write_state(self.bundle.directory, state)


@dataclass(slots=True, kw_only=True)
class Exec(Process):
    sandbox_id: str
    cgroup: str
    owner: Client  # the client that asked for it: when that goes, nobody reads what it says
    console: int = -1
    slot: int = -1  # in the page that tells the next supervisor of it (`exec_page`)

    def hold(self) -> None:
        """Hold it by a pidfd: our child, and not reaped yet. Idempotent."""
        if self.pidfd < 0:
            self.pidfd = process.pidfd_open(self.pid)

    def signal_session(self, hierarchy: Hierarchy, number: int) -> None:
        """Signal every process of its session; itself also before it has one."""
        if not self.pid:
            return
        try:
            pids = hierarchy.procs(self.cgroup)
        except OSError:  # it is being removed, or no descriptor is left
            pids = []
        for pid in pids:
            try:
                if os.getsid(pid) == self.pid and pid != self.pid:
                    os.kill(pid, number)
            except ProcessLookupError:
                continue
        if self.exit is None:  # our child, and not reaped yet: its pid is its own
            os.kill(self.pid, number)


@dataclass(slots=True, kw_only=True)
class SandboxSetup(Process):
    """The making or dropping of a sandbox: no process remains of it."""


def exit_record(info: os.waitid_result) -> ExitRecord:
    """Turn waitid's answer into how Kubernetes counts: 128 + signal for a killed process."""
    now = time.time()
    if info.si_code == os.CLD_EXITED:
        return ExitRecord(code=info.si_status, finished_at=now)
    return ExitRecord(code=128 + info.si_status, signal=info.si_status, finished_at=now)


def reap(record: Callable[[int, ExitRecord], None]) -> None:
    """Take every ended child: read its status, have it recorded, only then let it go."""
    while True:
        try:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if info is None:
            return
        record(info.si_pid, exit_record(info))
        os.waitid(os.P_PID, info.si_pid, os.WEXITED | os.WNOHANG)
