"""A client's machine is gone, or its line is cut: no packet says so. Within a minute nothing of it is left; who is only slow stays."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time

import pytest

from tests.api.conftest import found
from tests.api.test_streams import WEB
from tests.api.test_streams_gone import TICKS
from tests.kubectl import Kubectl
from tests.node import eventually, shell, sleeper

FOUND = 120.0  # seconds: a ping or a keepalive after 15, half a minute of silence, a look every 15; and the hang-up

STAYS = "trap '' HUP; echo on; exec sleep 4601"
# Busy, but never ahead of its reader: who had no room left when its line was cut is only found after minutes (`presence.SILENCE_FULL`).
BUSY = ("ping", "-i", "0.1", "127.0.0.1")
TALKS = """
import socket, sys, time
held = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
held.send(b"GET")
print("on", flush=True)
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def pods(node):
    """One that is talked to, and one that only lends its network: the client's, whose line is cut."""
    node.pod("lost", shell(TICKS, "app"), sleeper("quiet"), WEB)
    node.pod("far", sleeper("app"))
    yield node
    node.delete("lost", "far")


class Far:
    """Programs in the network namespace of pod far; all are killed in the end."""

    def __init__(self, node, kubectl) -> None:
        self._pid = node.containers(node.get("far"))["app"]["pid"]
        self._server = f"https://{node.instance.gateways[0]}:{node.instance.api_port}"
        self._kubectl = kubectl
        self.processes: list[subprocess.Popen[bytes]] = []

    def enter(self, *command: str) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._pid}/ns/net", *command]

    def start(self, *command: str, first: bytes = b"") -> bytes:
        """Run *command* in there; return the first line that it says, which starts with *first*."""
        pipe = subprocess.PIPE
        made = subprocess.Popen(
            self.enter(*command), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
        )
        self.processes.append(made)
        said = made.stdout.readline()
        assert said.startswith(first)
        return said

    def words(self, *words: str) -> list[str]:
        """Return kubectl's command line in there."""
        return self._kubectl.words("--server", self._server, *words)

    def talk(self, *words: str, first: bytes = b"") -> bytes:
        """Run kubectl in there."""
        return self.start(*self.words(*words), first=first)

    def read(self, *command: str) -> None:
        """Run *command* in there and take in all that it says."""
        self.processes.append(subprocess.Popen(self.enter(*command), stdout=subprocess.DEVNULL))

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@contextlib.contextmanager
def slow(node, kubectl: Kubectl):
    """A client beside it that reads nothing of all that is said to it; it is still there afterwards."""
    command = kubectl.words("exec", "lost", "-c", "quiet", "--", "yes")
    before = watched(node)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"y\n"
            eventually(lambda: watched(node) > before)
            yield
            for _ in range(1 << 20):  # more than was on its way to it
                assert process.stdout.readline(8) == b"y\n"
        finally:
            process.kill()


def watched(node) -> int:
    """Count the clients that the daemon looks after: it has an epoll for each that has been there for a moment."""
    directory = f"/proc/{node.status()['pid']}/fd"
    return sum("eventpoll" in _target(f"{directory}/{fd}") for fd in os.listdir(directory))


def traces(node) -> list[int]:
    """Count what a client of each verb costs: descriptors of daemon and pump, commands, and httpd's process for a forwarded connection.

    Excluded: sockets of the daemon. kubectl asks for a pod over a connection that it keeps for a while; unused it ends after 90 seconds.
    """
    daemon, pump = (f"/proc/{node.status()[k]}/fd" for k in ("pid", "pump_pid"))
    held = [_target(f"{daemon}/{fd}") for fd in os.listdir(daemon)]
    listed = [node.exec("lost", "ps", container=c).count("\n") for c in ("quiet", "web")]
    return [sum(not t.startswith("socket:") for t in held), len(os.listdir(pump)), *listed]


def settled(node) -> list[int]:
    """Return the traces when nothing of earlier clients and pods goes away any more."""
    seen: list[list[int]] = []

    def same() -> bool:
        seen.append(traces(node))
        time.sleep(0.5)
        return seen[-2:] == [seen[-1]] * 2

    eventually(same)
    return seen[-1]


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return "socket:"  # closed meanwhile


@pytest.mark.timeout(240)
def test_a_client_whose_line_is_cut_is_found(newest, pods) -> None:
    """Of every verb, busy and idle; over WebSockets and, by the oldest kubectl, over SPDY."""
    node = pods
    version, path = next(iter(found().items()))
    oldest = Kubectl(version, path, newest.kubeconfig, newest.home)
    over_spdy = oldest.version < (1, 30)
    with slow(node, oldest) if over_spdy else contextlib.nullcontext():
        before = settled(node)
        clients = [Far(node, kubectl) for kubectl in ((newest, oldest) if over_spdy else (newest,))]
        try:
            for far in clients:
                hold_on(far)
            cut = clients[0].enter("ip", "link", "set", "eth0", "down")
            eventually(lambda: served(node, before, len(clients)))
            subprocess.run(cut, check=True)
            eventually(lambda: gone(node, before), FOUND)
            # They do not know it: nobody could tell them.
            assert all(p.poll() is None for far in clients for p in far.processes[:2])
        finally:
            for far in clients:
                far.end()


def served(node, before: list[int], clients: int) -> bool:
    return all(now >= was + clients for now, was in zip(traces(node), before, strict=True))


def gone(node, before: list[int]) -> bool:
    """Whether nothing is there that was not; something else may have ended meanwhile."""
    return all(now <= was for now, was in zip(traces(node), before, strict=True))


def hold_on(far: Far) -> None:
    """Start one of each, and wait until it is served."""
    far.talk("exec", "-i", "lost", "-c", "quiet", "--", "sh", "-c", STAYS, first=b"on")
    far.talk("logs", "-f", "lost", "-c", "app")
    far.read(*far.words("exec", "lost", "-c", "quiet", "--", *BUSY))
    far.talk("attach", "lost", "-c", "app")
    said = far.talk("port-forward", "--address", "127.0.0.1", "lost", ":8080", first=b"Forwarding")
    port = said.split()[2].rpartition(b":")[2].decode()
    far.start(sys.executable, "-c", TALKS, port, first=b"on")
