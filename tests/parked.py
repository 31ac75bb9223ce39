"""Set-ups that a fault lets hang: found by where they sleep. An exec that is stopped on its way into a container, to be met there."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator

from minipod.runtime import bundle as bundles
from minipod.supervisor import protocol
from tests.node import Node, eventually

PAUSE = {"x86_64": "34", "aarch64": "73"}  # the numbers of pause, and of ppoll, which is it there


def children(pid: int) -> set[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return {int(word) for word in f.read().split()}
    except (FileNotFoundError, ProcessLookupError):
        return set()  # it has ended


def descriptors(supervisor: int) -> set[int]:
    """Return those that it has at rest: what an exec had is closed after its client has heard of the end."""
    seen: list[set[int] | None] = []

    def rests() -> bool:
        with open(f"/proc/{supervisor}/stat", encoding="ascii") as f:
            asleep = f.read().rpartition(")")[2].split()[0] == "S"
        seen.append(set(map(int, os.listdir(f"/proc/{supervisor}/fd"))) if asleep else None)
        return seen[-1] is not None and seen[-3:] == seen[-1:] * 3

    eventually(rests)
    assert seen[-1] is not None
    return seen[-1]


def hanging(supervisor: int) -> set[int]:
    """Return the supervisor's children and their children that are where a fault lets a set-up hang: in pause(2)."""
    near = children(supervisor)
    return {pid for pid in near.union(*map(children, near)) if _pauses(pid)}


def _pauses(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/syscall", encoding="ascii") as f:
            return f.read().partition(" ")[0] == PAUSE.get(os.uname().machine)
    except (FileNotFoundError, ProcessLookupError):
        return False


def exec_by_the_long_way(node: Node, container: str, *argv: str) -> str:
    """Return what a command says that a Python process brings into its container (a fault that never comes asks for one)."""
    process = bundles.read(f"{node.instance.run_dir}/containers/{container}").process
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(node.instance.supervisor_socket)
        reader, writer = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        os.fchown(writer, process.uid, process.gid)
        asked = {
            "op": "exec",
            "n": 1,
            "id": "long",
            "container": container,
            "argv": argv,
            "tty": False,
        }
        protocol.send(client, {**asked, "fail_at": "nothing"}, [null, writer, writer])
        for fd in (null, writer):
            os.close(fd)
        with open(reader, encoding="utf-8") as output:
            said = output.read()
        answer, _ = protocol.receive(client)
    assert answer is not None
    assert "ok" in answer, answer
    return said


@contextlib.contextmanager
def parked_exec(node: Node, container: str, step: str) -> Iterator[None]:
    """An exec that stops right before *step*, inside the container; it is there when the body begins."""
    supervisor = node.status()["supervisor_pid"]
    before = hanging(supervisor)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(node.instance.supervisor_socket)
        null = os.open(os.devnull, os.O_RDWR)
        asked = {
            "op": "exec",
            "n": 1,
            "id": "parked",
            "container": container,
            "argv": ("true",),
            "tty": False,
        }
        protocol.send(client, {**asked, "fail_at": f"hang:{step}"}, [null, null, null])
        os.close(null)
        eventually(lambda: hanging(supervisor) - before)
        yield
        protocol.send(
            client, {"op": "signal_exec", "n": 2, "id": "parked", "signal": signal.SIGKILL}
        )
        answers = [protocol.receive(client)[0] for _ in range(2)]
        assert {a["n"] for a in answers} == {1, 2}
        assert "not done after" not in str(answers)  # killed, not given up at its deadline
