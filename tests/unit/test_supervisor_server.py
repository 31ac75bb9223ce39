"""The supervisor's loop: what one client or one descriptor does stops nobody else."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from minipod.cgroups.hierarchy import Hierarchy, Mode
from minipod.spec.bundle import Bundle, Process, RootFs
from minipod.spec.codec import dumps
from minipod.spec.instance import Instance
from minipod.spec.sandbox import NamespaceMode
from minipod.supervisor import protocol
from minipod.supervisor.exec_page import ExecPage
from minipod.supervisor.requests import Requests
from minipod.supervisor.server import Client, Supervisor
from minipod.supervisor.services import Service
from minipod.supervisor.setups import Setups


@pytest.fixture
def supervisor(tmp_path) -> Iterator[Supervisor]:
    made = Supervisor(Instance(run_root=str(tmp_path), name="x"), Hierarchy(Mode.V1, ()), -1)
    execs = ExecPage(f"{tmp_path}/execs")
    Requests(made, Setups(made, execs))
    yield made
    execs.close()
    made._listener.close()
    made._selector.close()


@pytest.fixture
def client(supervisor: Supervisor) -> Iterator[socket.socket]:
    """Our end of a client's connection."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    known = Client(theirs)
    supervisor._clients.add(known)
    supervisor.watch(theirs, lambda: supervisor._receive(known))
    yield ours
    ours.close()
    with contextlib.suppress(KeyError, ValueError):
        supervisor.unwatch(theirs)
    theirs.close()


def turn(supervisor: Supervisor) -> None:
    """One turn of the loop."""
    supervisor.call_later(0, supervisor.stop)
    supervisor._running = True
    supervisor.run()


def test_a_number_that_was_used_again_is_not_taken_for_what_it_was(supervisor: Supervisor) -> None:
    """Two descriptors are ready in one turn; the first one's callback closes the second, and opens another with its number."""
    pairs = [os.pipe() for _ in range(2)]
    told: list[str] = []

    def first() -> None:
        for reader, _ in pairs:
            supervisor.unwatch(reader)
        os.dup2(pairs[0][0], pairs[1][0])
        supervisor.watch(pairs[1][0], lambda: told.append("new"))
        told.append("first")

    for reader, writer in pairs:
        supervisor.watch(reader, first)
        os.write(writer, b".")
    turn(supervisor)
    assert told == ["first"]
    turn(supervisor)
    assert told == ["first", "new"]
    supervisor.unwatch(pairs[1][0])
    for fd in (fd for pair in pairs for fd in pair):
        os.close(fd)


def test_a_client_that_talks_nonsense_is_dropped(supervisor: Supervisor, client) -> None:
    client.send(b"\xffno json")
    turn(supervisor)
    assert client.recv(16) == b""
    assert not supervisor._clients


def test_without_descriptors_for_new_clients_the_others_are_served(
    supervisor: Supervisor, client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def accept(self) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    listener = supervisor._listener
    monkeypatch.setattr(supervisor, "_listener", Full())
    supervisor._accept()
    monkeypatch.setattr(supervisor, "_listener", listener)
    protocol.send(client, {"n": 1, "op": "hello"})
    turn(supervisor)
    assert protocol.receive(client)[0]["ok"]["pid"] == os.getpid()


def test_stopping_a_service_that_has_ended_is_no_error(tmp_path) -> None:
    """An adopted one is reaped by its parent: its pid may be gone before the supervisor hears of it."""
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    service = Service(name="x", spawn=lambda: 0, run_dir=str(tmp_path), pid=pid)
    service.stop(signal.SIGTERM)
    assert not service.wanted


def test_a_container_whose_pid_namespace_has_ended_leaves_nothing_behind(
    supervisor: Supervisor, client, tmp_path
) -> None:
    """What it was to join is told by pid, which may be another process' by now: only a container that we hold is joined."""
    directory = tmp_path / "x/containers/c"
    directory.mkdir(parents=True)
    process = Process(argv=("true",), env=(), cwd="/")
    bundle = Bundle(
        id="c", sandbox_id="s", title="t", directory=str(directory), log_path="/dev/null", cgroup="c",
        rootfs=RootFs(lower=("/",), upper="/", work="/", mountpoint="/"), process=process,
        pid=NamespaceMode.TARGET, target_pid=os.getpid(),
    )  # fmt: skip
    (directory / "bundle.json").write_bytes(dumps(bundle))
    before = set(os.listdir("/proc/self/fd"))
    protocol.send(client, {"n": 1, "op": "create", "id": "c"})
    turn(supervisor)
    answer = protocol.receive(client)[0]["error"]
    assert answer["kind"] == "FailedPrecondition"
    assert "has ended" in answer["message"]
    assert not supervisor.tables.containers
    assert set(os.listdir("/proc/self/fd")) == before
