"""Programs in a thread without an interpreter: what becomes of them, and that nothing of the process changes. Excluded: namespaces."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from minipod.linux import machine_thread
from minipod.linux.flags import AT_FDCWD
from minipod.linux.machine import Piece
from minipod.linux.machine_thread import ThreadMachine
from minipod.linux.program import Buffer, Call, Text

MISSING = Call("chdir", (b"/nosuch",))


@pytest.fixture
def machine() -> Iterator[ThreadMachine]:
    made = ThreadMachine()
    yield made
    made.close()


def run(machine: ThreadMachine, program: Piece, enter: Sequence[Call] = ()) -> bool:
    machine.start(enter, program)
    assert select.select([machine.bell], [], [], 60)[0]
    return machine.succeeded()


def make(path: Path, **how: int) -> Call:
    return Call("mkdirat", (AT_FDCWD, os.fsencode(path), 0o755), **how)


@pytest.mark.parametrize("where", ["enter", "program"])
def test_a_call_that_fails_ends_it_and_the_next_program_runs(
    machine: ThreadMachine, tmp_path: Path, where: str
) -> None:
    parts = {"enter": [make(tmp_path / "a")], "program": [make(tmp_path / "b")]}
    parts[where].insert(0, MISSING)
    assert not run(machine, **parts)
    assert sorted(os.listdir(tmp_path)) == ([] if where == "enter" else ["a"])
    assert run(machine, [Call("chdir", (b"/",)), make(tmp_path / "b")])
    assert "b" in os.listdir(tmp_path)


def test_one_that_has_not_rung_has_not_succeeded(machine: ThreadMachine) -> None:
    with pytest.raises(BlockingIOError):
        machine.succeeded()


def test_where_it_goes_and_what_it_opens_is_its_own(machine: ThreadMachine, tmp_path: Path) -> None:
    """Descriptors have the numbers that the program was told, however many the process has, and are no one's afterwards."""
    many = [os.open("/", os.O_RDONLY) for _ in range(50)]
    before, here = sorted(os.listdir("/proc/self/fd")), os.getcwd()
    fd = machine.descriptor
    assert run(
        machine,
        [
            Call("chdir", (os.fsencode(tmp_path),)),
            Call("openat", (AT_FDCWD, b"file", os.O_CREAT | os.O_WRONLY, 0o644)),
            Call("write", (fd, b"text", 4)),
            Call("close", (many[-1],), on_error=1),  # it does not have ours
            MISSING,
        ],
    )
    assert (tmp_path / "file").read_text() == "text"
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert os.getcwd() == here
    for each in many:
        os.close(each)


def test_what_is_closed_meanwhile_is_closed(machine: ThreadMachine, tmp_path: Path) -> None:
    """The thread has no copy of a descriptor while its program runs: who reads a pipe sees its end."""
    os.mkfifo(tmp_path / "fifo")
    reader, writer = os.pipe()
    until_it_is_opened = Call("openat", (AT_FDCWD, os.fsencode(tmp_path / "fifo"), os.O_RDONLY))
    machine.start([], [make(tmp_path / "begun"), until_it_is_opened])
    end = time.monotonic() + 60
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < end
    os.close(writer)
    assert select.select([reader], [], [], 60)[0]
    assert os.read(reader, 1) == b""
    with pytest.raises(BlockingIOError):
        machine.succeeded()
    os.close(os.open(tmp_path / "fifo", os.O_WRONLY))
    assert select.select([machine.bell], [], [], 60)[0]
    assert machine.succeeded()
    os.close(reader)


def test_it_waits_for_no_interpreter(machine: ThreadMachine) -> None:
    """This one keeps its lock while it looks whether the program has come to its end."""
    told, interval = Buffer(8), sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        machine.start([], [Call("getpid", (), gives=told)])
        room, end = machine._rooms[id(told)], time.monotonic() + 60
        while not any(machine._region[room : room + 8]):
            assert time.monotonic() < end
    finally:
        sys.setswitchinterval(interval)
    assert select.select([machine.bell], [], [], 60)[0]
    assert machine.succeeded()


def test_what_many_have_alike_runs_with_each_ones_texts(
    machine: ThreadMachine, tmp_path: Path
) -> None:
    def creation(path: Text) -> list[Call]:
        return [Call("mkdirat", (AT_FDCWD, path, 0o755))]

    for name in ("one", "another", "x" * 200):
        path = Text(os.fsencode(tmp_path / name))
        assert run(machine, machine.once("key", [path], lambda path=path: creation(path)))
    assert sorted(os.listdir(tmp_path)) == ["another", "one", "x" * 200]


def test_more_kinds_than_there_is_room_for(machine: ThreadMachine, tmp_path: Path) -> None:
    """All are forgotten then, and written down anew."""
    for n in range(2 * machine_thread.SIZE // machine_thread.OWN):
        path, room = Text(os.fsencode(tmp_path / str(n))), Buffer(machine_thread.OWN // 2)
        calls = [Call("getcwd", (room, room.size)), Call("mkdirat", (AT_FDCWD, path, 0o755))]
        assert run(machine, machine.once(n, [path], lambda calls=calls: calls))
    assert len(os.listdir(tmp_path)) == n + 1


def test_a_program_that_is_too_long_is_an_error_and_the_next_one_runs(
    machine: ThreadMachine,
) -> None:
    with pytest.raises(OverflowError):
        machine.start([], [Call("chdir", (b"x" * machine_thread.SIZE,))])
    assert run(machine, [])


def test_an_end_waits_for_the_thread_and_may_come_twice(tmp_path: Path) -> None:
    machine = ThreadMachine()
    machine.start([], [make(tmp_path / str(n)) for n in range(50)])
    machine.close()
    machine.close()
    assert len(os.listdir(tmp_path)) == 50
