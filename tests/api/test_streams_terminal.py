"""exec, attach and run with a terminal, as a person has one: by every kubectl, and by our own verbs."""

from __future__ import annotations

import os
import signal

import pytest

from tests.api.test_streams import words
from tests.node import eventually, shell, sleeper
from tests.person import CTRL_C, CTRL_D, Person, finds_size, resizes_and_interrupts, visits


@pytest.fixture(scope="module")
def pod(node):
    """A pod with a container that waits, and one whose process has a terminal of its own."""
    talker = shell("echo up; exec sh", "shell", stdin=True, tty=True)
    node.pod("typed", sleeper("app"), talker)
    yield "typed"
    node.delete("typed")


def a_shell_is_a_shell(command: list[str]) -> None:
    """Size, stderr on the same terminal, a new size, Ctrl-C for what runs in it, the exit code, the terminal given back."""
    with Person(command) as person:
        person.sees(b"# ")
        assert person.is_raw
        finds_size(person, 33, 77)
        person.types(b"test -t 2 && echo a-$((40+2))\n")
        person.sees(b"a-42")
        resizes_and_interrupts(person)
        person.types(b"exit 5\n")
        assert person.leaves() == 5


def test_a_shell_by_kubectl(kubectl, pod) -> None:
    a_shell_is_a_shell(words(kubectl, "exec", "-it", pod, "-c", "app", "--", "sh"))


def test_a_shell_by_our_exec(node, pod) -> None:
    a_shell_is_a_shell([*node.command, "exec", "-it", pod, "-c", "app", "--", "sh"])


def test_ctrl_d_ends_a_shell(node, pod) -> None:
    with Person([*node.command, "exec", "-it", pod, "-c", "app", "--", "sh"]) as person:
        person.sees(b"# ")
        person.types(CTRL_D)
        assert person.leaves() == 0


def test_ctrl_c_without_a_terminal_there_ends_client_and_command(node, pod) -> None:
    """No -t: the key is our terminal's, and the command gets the hang-up of its client."""
    script = (
        "trap 'echo hung up > /tmp/keys' HUP; echo on; while [ ! -e /tmp/keys ]; do sleep 0.1; done"
    )
    with Person(
        [*node.command, "exec", "-i", pod, "-c", "app", "--", "sh", "-c", script]
    ) as person:
        person.sees(b"on")
        assert not person.is_raw
        person.types(CTRL_C)
        assert person.leaves() == 130
    assert node.exec(pod, "sh", "-c", "until cat /tmp/keys; do :; done", container="app")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_for_our_client_gives_the_terminal_back(node, pod, number) -> None:
    with Person([*node.command, "exec", "-it", pod, "-c", "app", "--", "sh"]) as person:
        person.sees(b"# ")
        person.signals(number)
        assert person.leaves() == 128 + number


def test_a_container_that_ends_gives_the_terminal_back(node) -> None:
    node.pod("ends", sleeper("app"))
    with Person([*node.command, "exec", "-it", "ends", "--", "sh"]) as person:
        person.sees(b"# ")
        node.delete("ends")
        assert person.leaves() == 137


def test_a_node_that_ends_gives_the_terminal_back(node, pod) -> None:
    with Person([*node.command, "exec", "-it", pod, "-c", "app", "--", "sh"]) as person:
        person.sees(b"# ")
        os.kill(node.status()["pid"], signal.SIGKILL)
        person.sees(b"the connection ended before the command did")
        assert person.leaves() == 1
    eventually(node.is_up, 30)


def test_a_refused_exec_leaves_the_terminal_alone(node, pod) -> None:
    with Person([*node.command, "exec", "-it", pod, "-c", "none", "--", "sh"]) as person:
        person.sees(b"container none is not valid")
        assert person.leaves() == 1


@pytest.mark.parametrize("ours", [True, False], ids=["minipod", "kubectl"])
def test_an_attached_terminal_is_the_containers(newest, node, pod, ours) -> None:
    """Its size, too; and the container stays when we go."""
    command = [*node.command] if ours else words(newest)
    rows = 28 + ours  # another than the one before left
    with Person([*command, "attach", "-it", pod, "-c", "shell"], rows, columns=69) as person:
        finds_size(person, rows, 69)
        person.signals(signal.SIGTERM)
        person.leaves()
    status = {s["name"]: s for s in node.get(pod)["status"]["containerStatuses"]}
    assert status["shell"]["restartCount"] == 0


def test_run_with_a_terminal_by_kubectl(newest, node) -> None:
    """The pod goes with its shell (--rm)."""
    command = words(
        newest, "run", "once", "-it", "--rm", "--restart=Never", "--image=busybox:1.36",
        "--image-pull-policy=IfNotPresent", "--", "sh",
    )  # fmt: skip
    try:
        visits(command, b'"once" deleted')
    finally:
        node.delete("once")


def test_the_first_prompt_is_there_by_kubectl(kubectl, node) -> None:
    """It was said before anybody was attached; with stdinOnce it waits for its one client."""
    name = f"prompts-{kubectl.version[1]}"
    node.pod(
        name, {"name": "app", "command": ["sh"], "stdin": True, "stdinOnce": True, "tty": True}
    )
    eventually(lambda: "#" in node.run("logs", name).stdout)
    try:
        with Person(words(kubectl, "attach", "-it", name)) as person:
            person.sees(b"# ")
            person.types(b"exit\n")
            assert person.leaves() == 0
    finally:
        node.delete(name)
