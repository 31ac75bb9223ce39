"""One side of a stream disappears: its client, the daemon that serves it, the pump that copies for it. What each leaves behind: nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import pytest

from tests.api.test_streams import words
from tests.node import eventually, shell, sleeper

TICKS = "i=0; while echo $i; do i=$((i+1)); sleep 0.05; done"
HEARS = "trap 'echo hung up > /tmp/heard; exit' HUP; echo on; while :; do sleep 0.1; done"
IGNORES = "trap '' HUP; echo on; sleep {mark}; :"


@pytest.fixture(scope="module")
def pod(node):
    """A pod with a container that speaks at once, and one that never does."""
    node.pod("leaves", shell(TICKS, "app"), sleeper("quiet"))
    yield "leaves"
    node.delete("leaves")


@contextlib.contextmanager
def talking(command: list[str], first: bytes):
    """Run a client until it has heard its first line, and kill it in the end: it says no goodbye."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    with process:
        try:
            assert process.stdout.readline().strip() == first or not first
            yield process
        finally:
            process.kill()


def descriptors(node) -> dict[str, int]:
    """Return how many the daemon and the pump have."""
    status = node.status()
    pids = {"daemon": status["pid"], "pump": status["pump_pid"]}
    return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in pids.items()}


def no_more_than(before: dict[str, int], node) -> bool:
    """Whether they have no more than before, when some of an earlier command may not have been closed yet."""
    return all(count <= before[name] for name, count in descriptors(node).items())


def reads(node, path: str) -> bool:
    """Whether the daemon has a file open."""
    directory = f"/proc/{node.status()['pid']}/fd"
    found = []
    for fd in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"{directory}/{fd}"))
    return path in found


def test_an_attach_detaches_and_the_container_and_its_log_go_on(kubectl, pod, node) -> None:
    """Excluded: that the log has a gap where the client went: its numbers are counted."""
    with talking(words(kubectl, "attach", pod, "-c", "app"), b"") as process:
        last = int(process.stdout.readline())
    after = last + 10
    with subprocess.Popen(
        words(kubectl, "logs", "-f", pod, "-c", "app"), stdout=subprocess.PIPE, text=True
    ) as log:
        try:
            said = []
            for line in log.stdout:
                said.append(int(line))
                if said[-1] == after:
                    break
        finally:
            log.kill()
    assert said == list(range(after + 1))
    assert node.get(pod)["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.parametrize("container", ["app", "quiet"])
def test_a_client_of_attach_leaves_no_descriptor(newest, pod, node, container) -> None:
    """Also where the container never says anything: the pump must notice without a write."""
    node.exec(pod, "true", container=container)
    before = descriptors(node)
    command = words(newest, "attach", pod, "-c", container)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        eventually(lambda: descriptors(node)["pump"] > before["pump"], 30)
        client.kill()
    eventually(lambda: no_more_than(before, node), 30)


def test_a_follower_of_a_log_that_says_nothing_leaves_no_descriptor(newest, pod, node) -> None:
    log = node.containers(node.get(pod))["quiet"]["log"]
    before = descriptors(node)
    with subprocess.Popen(words(newest, "logs", "-f", pod, "-c", "quiet")) as client:
        eventually(lambda: reads(node, log), 30)
        client.kill()
    eventually(lambda: not reads(node, log) and no_more_than(before, node), 30)


def test_a_client_goes_unheard_while_its_input_is_not_read(pod, node) -> None:
    """Nobody reads from it then: its connection alone tells."""
    command = ("exec", "-i", pod, "-c", "quiet", "--", "sh", "-c", "echo on; sleep 4141; :")
    with talking([*node.command, *command], b"on") as process, contextlib.suppress(BrokenPipeError):
        os.set_blocking(process.stdin.fileno(), False)
        eventually(lambda: not process.stdin.raw.write(bytes(1 << 20)), 30)
    eventually(lambda: "sleep 4141" not in node.exec(pod, "ps", container="quiet"), 30)


def test_a_command_hears_that_its_client_hung_up(kubectl, pod, node) -> None:
    node.exec(pod, "rm", "-f", "/tmp/heard", container="quiet")
    with talking(words(kubectl, "exec", "-i", pod, "-c", "quiet", "--", "sh", "-c", HEARS), b"on"):
        pass
    heard = ("cat", "/tmp/heard")
    eventually(lambda: node.exec(pod, *heard, container="quiet", check=False) == "hung up\n", 30)


def test_a_command_that_ignores_the_hang_up_is_killed(newest, pod, node) -> None:
    """And what it started, too: the whole session."""
    command = ("exec", "-i", pod, "-c", "quiet", "--", "sh", "-c", IGNORES.format(mark="4242"))
    with talking(words(newest, *command), b"on"):
        pass
    eventually(lambda: "sleep 4242" not in node.exec(pod, "ps", container="quiet"), 30)


def test_a_command_ends_with_the_daemon_that_serves_it(newest, pod, node) -> None:
    """The client hears of it; nobody is left to read what the command says."""
    command = ("exec", pod, "-c", "quiet", "--", "sh", "-c", IGNORES.format(mark="4343"))
    with talking(words(newest, *command), b"on") as process:
        os.kill(node.status()["pid"], signal.SIGKILL)
        assert process.wait(30) != 0
    eventually(node.is_up, 30)
    eventually(lambda: "sleep 4343" not in node.exec(pod, "ps", container="quiet"), 30)


def test_a_follower_hears_that_the_daemon_died(pod, node) -> None:
    """Not the end of the log: that would be told as one."""
    command = [*node.command, "logs", "-f", pod, "-c", "app"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        os.kill(node.status()["pid"], signal.SIGKILL)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, b"the node went away" in said) == (1, True), said
    eventually(node.is_up, 30)


def test_an_attach_whose_pump_dies_says_that_something_is_missing(pod, node) -> None:
    """Not an end like the container's. The next pump goes on with the log."""
    with subprocess.Popen(
        [*node.command, "attach", pod, "-c", "app"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        os.kill(node.status()["pump_pid"], signal.SIGKILL)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, b"was cut off" in said) == (1, True), said


@pytest.mark.parametrize("size", [5 << 20, 64 << 20], ids=["small", "large"])
def test_a_burst_for_an_attached_client_is_whole_or_told(newest, node, size) -> None:
    """The log never waits, so a client may fall behind: by five megabytes, and it does not matter; by more, and it is told."""
    name = "bursts"
    node.pod(
        name, shell(f"read go; head -c {size} /dev/zero", stdin=True, stdinOnce=True), restartPolicy="Never",
    )  # fmt: skip
    try:
        command = words(newest, "attach", "-i", name)
        done = subprocess.run(command, input=b"go\n", capture_output=True, check=False, timeout=50)
        is_whole = len(done.stdout) == size
        assert is_whole or size > 8 << 20
        assert done.returncode == (0 if is_whole else 1)
        assert (b"was cut off" in done.stderr) != is_whole
    finally:
        node.delete(name)
