"""What the supervisor and its pump write: whole or not at all, and one bad path stops no other."""

from __future__ import annotations

import fcntl
import os
import resource
import signal

from minipod.cgroups import files
from minipod.linux import process
from minipod.supervisor import records
from minipod.supervisor.logfile import LogFile
from minipod.supervisor.records import ServiceRecord


def test_a_process_is_known_by_pid_and_start_time(tmp_path) -> None:
    own = ServiceRecord(pid=os.getpid(), start_time=process.start_time(os.getpid()))
    pidfd = records.open_alive(own)
    assert pidfd >= 0
    os.close(pidfd)
    assert records.open_alive(ServiceRecord(pid=own.pid, start_time=own.start_time + 1)) == -1
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert records.open_alive(ServiceRecord(pid=child, start_time=1)) == -1


def test_a_log_that_can_not_be_opened_is_tried_again(tmp_path) -> None:
    """A file stands where its directory should be: as with a full disk, nothing is raised, and later lines are written."""
    (tmp_path / "d").touch()
    log = LogFile(f"{tmp_path}/d/0.log", limit=100)
    assert not log.write(b"lost\n")
    log.reopen()
    (tmp_path / "d").unlink()
    assert not log.write(b"kept\n")
    log.close()
    log.close()
    assert (tmp_path / "d/0.log").read_bytes() == b"kept\n"


def test_a_process_is_awaited_by_a_descriptor_of_any_number() -> None:
    """select(2) knows those below 1024; a supervisor has three for each container."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert process.raise_descriptor_limit() == limits
    if (child := os.fork()) == 0:
        signal.pause()
    pidfd = process.pidfd_open(child)
    high = fcntl.fcntl(pidfd, fcntl.F_DUPFD_CLOEXEC, 1024)
    try:
        assert not process.await_end(high, 0.01)
        assert process.kill(high, 10)
    finally:
        os.waitpid(child, 0)
        os.close(high)
        os.close(pidfd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_long_file_is_read_to_its_end(tmp_path) -> None:
    """The kernel gives a page of cgroup.procs for each read(2)."""
    content = b"".join(b"%d\n" % n for n in range(50_000))
    (tmp_path / "procs").write_bytes(content)
    assert files.read(f"{tmp_path}/procs") == content


def test_turns_are_shortened_for_a_process_and_not_for_its_children() -> None:
    """As sched(7) tells them: "slice" since Linux 6.12, before that none is shown."""

    def turn(pid: int) -> str:
        with open(f"/proc/{pid}/sched", encoding="ascii") as f:
            return next((line.split()[-1] for line in f if line.startswith("se.slice")), "")

    usual = turn(os.getpid())
    if (child := os.fork()) == 0:
        process.shorten_turns(0.0001)
        grandchild = os.fork()
        if grandchild == 0:
            signal.pause()
        expected = (turn(os.getpid()), turn(grandchild)) == ("100000" if usual else "", usual)
        os.kill(grandchild, signal.SIGKILL)
        os._exit(0 if expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
