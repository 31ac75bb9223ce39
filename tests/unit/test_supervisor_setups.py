"""What a set-up says, read in the orders that two processes can say it in."""

from __future__ import annotations

import os

import pytest

from minipod.cgroups.hierarchy import Hierarchy, Mode
from minipod.init import sync
from minipod.spec.bundle import ExecBundle, Process
from minipod.spec.instance import Instance
from minipod.supervisor.children import Exec, Phase
from minipod.supervisor.exec_page import ExecPage
from minipod.supervisor.server import Supervisor
from minipod.supervisor.setups import Setups


@pytest.mark.parametrize("first", ["forked", "ready"])
def test_a_main_process_goes_on_when_it_is_ready_and_known_in_any_order(
    first: str, tmp_path
) -> None:
    """On a busy machine the main process is ready before the first one has told its pid."""
    supervisor = Supervisor(Instance(), Hierarchy(Mode.V1, ()), -1)
    execs = ExecPage(f"{tmp_path}/execs")
    setups = Setups(supervisor, execs)
    process = Process(argv=("true",), env=(), cwd="/", uid=0, gid=0, groups=(), capabilities=())
    bundle = ExecBundle(id="e", container_id="c", process=process)
    ours, theirs = sync.pair()
    made = Exec(id="e", bundle=bundle, cgroup="c", owner=None, sync=ours)
    supervisor.tables.setups = 1
    said = [lambda: theirs.forked(os.getpid()), theirs.ready]
    for say in said if first == "forked" else reversed(said):
        assert made.phase is Phase.SETTING_UP
        say()
        setups._from_setup(made)
    assert made.phase is Phase.STARTING
    assert made.pid == os.getpid()
    assert theirs.await_go()
    setups.close(made)
    assert not execs.take_all()
    execs.close()
    theirs.close()
    supervisor._listener.close()
    supervisor._selector.close()
