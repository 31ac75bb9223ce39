"""The page of running execs: what one supervisor notes, the next one reads, whatever became of the first."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from minipod.linux import process
from minipod.linux.libc import syscall
from minipod.supervisor.exec_page import ExecPage, runs


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/execs"


def test_what_runs_is_found_after_a_kill(path: str) -> None:
    """More than fit into the page at first; excluded is what had ended."""
    if (pid := os.fork()) == 0:
        try:
            page = ExecPage(path)
            slots = [page.add(n, n * n) for n in range(1, 1001)]
            for slot in slots[::2]:
                page.remove(slot)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    page = ExecPage(path)
    assert sorted(page.take_all()) == [(n, n * n) for n in range(2, 1001, 2)]
    assert page.take_all() == []
    page.close()


def test_the_kernel_notes_a_pid_before_its_process_runs_and_who_is_another_one_is_not_taken_for_it(
    path: str,
) -> None:
    """The child ends at its first step; its note is there, and stands for nobody else with that pid."""
    page = ExecPage(path)
    slot = page.reserve()
    pid = _fork_noted(page.address(slot))
    ((noted, begun),) = ExecPage(path).take_all()
    assert noted == pid
    assert runs(pid, begun)
    assert not runs(pid, begun + 1000)  # it was there before
    assert not runs(pid, begun - 1000)  # that one has ended long ago
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not runs(pid, begun)
    page.close()


def _fork_noted(address: int) -> int:
    """Fork a process that waits, as a launch does; its pid is written to *address*."""
    arguments = process.clone_arguments(note=address)
    pid = syscall("clone3", arguments, len(arguments))
    if pid == 0:
        signal.pause()
    return pid


def test_slots_are_used_again(path: str) -> None:
    page = ExecPage(path)
    for n in range(1, 5000):
        page.remove(page.add(n, 1))
    size = os.stat(path).st_size
    page.close()
    assert size == 4096
