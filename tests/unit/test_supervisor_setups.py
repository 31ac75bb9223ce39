"""What a set-up says, read in the orders that two processes can say it in."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from minipod.cgroups.hierarchy import Hierarchy, Mode
from minipod.init import entrance, sync
from minipod.init.launch import Launcher
from minipod.spec.instance import Instance
from minipod.supervisor.children import Exec, Phase
from minipod.supervisor.exec_page import ExecPage
from minipod.supervisor.server import Client, Supervisor
from minipod.supervisor.setups import Setups


def an_exec(sync_socket: socket.socket) -> Exec:
    return Exec(id="e", sandbox_id="s", cgroup="c", owner=Client(sync_socket), sync=sync_socket)


def test_the_last_words_of_a_process_that_left_go_unread_are_heard(tmp_path) -> None:
    """Its end with something unread is an error before them; what it asks for is the long way."""
    supervisor = Supervisor(Instance(), Hierarchy(Mode.V1, ()), -1)
    execs = ExecPage(f"{tmp_path}/execs")
    setups = Setups(supervisor, execs)
    ours, theirs = sync.pair()
    made = an_exec(ours)
    asked: list[tuple[Phase, int]] = []
    made.long_way = lambda: asked.append((made.phase, len(made.held)))
    made.held = [os.dup(0)]
    setups._forked(made, os.getpid())
    made.phase = Phase.STARTING
    ours.send(sync.GO)
    with theirs._sock as other:
        other.send(sync.AGAIN)
    setups.hear(made)
    assert asked == [(Phase.SETTING_UP, 1)]
    assert (made.pid, made.pidfd, made.held, made.sync) == (0, -1, [], None)
    assert not execs.take_all()
    execs.close()
    supervisor._listener.close()
    supervisor._selector.close()


def test_execs_enter_all_cgroups_or_none(tmp_path) -> None:
    """A tree that can't be opened once: who enters the others only would have what these forbid."""
    os.mkdir(f"{tmp_path}/cpu")
    trees = [SimpleNamespace(unified=False, path=lambda _, name=n: f"{tmp_path}/{name}") for n in ("cpu", "devices")]  # fmt: skip
    launcher: Any = SimpleNamespace(_trees=None)
    hierarchy: Any = SimpleNamespace(trees=trees)
    before = os.listdir("/proc/self/fd")
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            Launcher._trees_of(launcher, hierarchy)
        assert os.listdir("/proc/self/fd") == before
    os.mkdir(f"{tmp_path}/devices")
    found = Launcher._trees_of(launcher, hierarchy)
    assert [os.readlink(f"/proc/self/fd/{fd}") for fd in found] == [t.path("") for t in trees]
    for fd in found:
        os.close(fd)


def test_an_entrance_keeps_what_is_written_to_in_all_trees_or_nothing(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is not there, or many descriptors are open already."""
    for tree in ("cpu", "devices"):
        os.makedirs(f"{tmp_path}/{tree}/pod")
    trees = [os.open(f"{tmp_path}/{tree}", os.O_PATH) for tree in ("cpu", "devices")]
    before = os.listdir("/proc/self/fd")
    with open(f"{tmp_path}/cpu/pod/tasks", "wb"), pytest.raises(FileNotFoundError):
        entrance.open_tasks(trees, "pod")
    with open(f"{tmp_path}/devices/pod/tasks", "wb"):
        pass
    with monkeypatch.context() as m:
        m.setattr(entrance, "MANY", max(trees) + 2)
        assert entrance.open_tasks(trees, "pod") == ()
    assert os.listdir("/proc/self/fd") == before
    found = entrance.open_tasks(trees, "pod")
    assert [os.readlink(f"/proc/self/fd/{fd}") for fd in found] == [
        f"{tmp_path}/{tree}/pod/tasks" for tree in ("cpu", "devices")
    ]
    for fd in (*found, *trees):
        os.close(fd)


@pytest.mark.parametrize("first", ["forked", "ready"])
def test_a_main_process_goes_on_when_it_is_ready_and_known_in_any_order(
    first: str, tmp_path
) -> None:
    """On a busy machine the main process is ready before the first one has told its pid."""
    supervisor = Supervisor(Instance(), Hierarchy(Mode.V1, ()), -1)
    execs = ExecPage(f"{tmp_path}/execs")
    setups = Setups(supervisor, execs)
    ours, theirs = sync.pair()
    made = an_exec(ours)
    supervisor.tables.setups = 1
    said = [lambda: theirs.forked(os.getpid()), theirs.ready]
    for say in said if first == "forked" else reversed(said):
        assert made.phase is Phase.SETTING_UP
        say()
        setups.hear(made)
    assert made.phase is Phase.STARTING
    assert made.pid == os.getpid()
    assert theirs.await_go()
    setups.close(made)
    assert not execs.take_all()
    execs.close()
    theirs.close()
    supervisor._listener.close()
    supervisor._selector.close()
