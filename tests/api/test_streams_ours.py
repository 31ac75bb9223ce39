"""Our own verbs on streams without a terminal: logs of several, exec's pipes, cp, port-forward."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess

import pytest

from tests.api.test_streams import WEB, fetch
from tests.node import eventually, shell, sleeper

SAYS = (
    "echo one; echo two >&2; until [ -e /tmp/go ]; do sleep 0.1; done; echo three; exec sleep 1000"
)


@pytest.fixture(scope="module")
def pod(node):
    """A pod with a web server first, and one that waits."""
    node.pod("ours", WEB, sleeper("app"))
    yield "ours"
    node.delete("ours")


@pytest.fixture(scope="module")
def talkers(node):
    """Two pods with the same label and two containers each, which say the same."""
    for name in ("talk-a", "talk-b"):
        node.pod(name, shell(SAYS, "x"), shell(SAYS, "y"))
        node.client.request(
            "PATCH", node.client.path("pods", "default", name),
            body={"metadata": {"labels": {"app": "talk"}}}, content_type="application/merge-patch+json",
        )  # fmt: skip
    yield ("talk-a", "talk-b")
    node.delete("talk-a", "talk-b")


# -- logs


def test_logs_of_all_containers_say_whose_they_are(node, talkers) -> None:
    command = ("logs", "talk-a", "--all-containers", "--prefix")
    # they are Ready before they speak
    eventually(lambda: node.run(*command).stdout.count("\n") == 4)
    said = node.run(
        *command, "--tail=1"
    ).stdout.splitlines()  # "two", unless stdout's pipe was read later
    assert sorted(line.split()[0] for line in said) == ["[pod/talk-a/x]", "[pod/talk-a/y]"]


def test_logs_are_followed_side_by_side(node, talkers) -> None:
    """Of every container of every pod of a label: nobody waits for the end of the first."""
    command = [*node.command, "logs", "-f", "-l", "app=talk", "--all-containers", "--prefix"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            before = {process.stdout.readline().strip() for _ in range(8)}
            for pod in talkers:
                for container in "xy":
                    node.exec(pod, "touch", "/tmp/go", container=container)
            after = {process.stdout.readline().strip() for _ in range(4)}
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
        finally:
            process.kill()
    whose = [f"[pod/{pod}/{container}]" for pod in talkers for container in "xy"]
    assert before == {f"{one} {word}" for one in whose for word in ("one", "two")}
    assert after == {f"{one} three" for one in whose}


def test_too_many_logs_are_not_followed(node, talkers) -> None:
    done = node.run(
        "logs", "-f", "-l", "app=talk", "--all-containers", "--max-log-requests=3", check=False
    )
    assert (done.returncode, "follow 4 log streams" in done.stderr) == (1, True)


def test_one_log_that_is_not_there_does_not_hide_the_others(node, talkers) -> None:
    done = node.run("logs", "-l", "app=talk", "-c", "nosuch", check=False)
    assert done.returncode == 1
    assert done.stderr.count("container nosuch is not valid") == 2


def test_the_first_container_is_meant_when_none_is_named(node, pod) -> None:
    done = node.run("exec", pod, "--", "sh", "-c", "pidof httpd && echo here")
    assert "here" in done.stdout
    assert done.stderr == 'Defaulted container "web" out of: web, app\n'


# -- exec


@pytest.mark.parametrize("piped", [True, False], ids=["pipe", "file"])
def test_five_megabytes_go_in_and_come_out_whole(node, pod, tmp_path, piped: bool) -> None:
    """A plain file is always readable: the client must not send all of it before it listens."""
    blob = os.urandom(5 << 20)
    (tmp_path / "blob").write_bytes(blob)
    command = [*node.command, "exec", "-i", pod, "-c", "app", "--", "cat"]
    with open(tmp_path / "blob", "rb") as file:
        given = {"input": blob} if piped else {"stdin": file}
        done = subprocess.run(command, **given, capture_output=True, check=True, timeout=50)
    assert done.stdout == blob


def test_a_reader_that_has_enough_ends_the_command(node, pod) -> None:
    script = f"set -o pipefail; {' '.join(node.command)} exec {pod} -c app -- yes | head -n1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=False, timeout=30)
    assert done.stdout == b"y\n"
    assert done.returncode == 1
    assert "yes" not in node.exec(pod, "sh", "-c", "while pidof yes; do :; done", container="app")


# -- cp


def test_a_directory_is_copied_both_ways(node, pod, tmp_path) -> None:
    """With what is in it: names with spaces, an empty directory, modes, a link (in only: see the next)."""
    here = tmp_path / "here"
    (here / "deep" / "empty").mkdir(parents=True)
    (here / "a b").write_text("with a space\n")
    (here / "deep" / "run").write_text("#!/bin/sh\n")
    (here / "deep" / "run").chmod(0o755)
    (here / "link").symlink_to("a b")
    node.run("cp", str(here), f"{pod}:/tmp/there", "-c", "app")
    assert node.exec(pod, "cat", "/tmp/there/link", container="app") == "with a space\n"
    done = node.run("cp", f"{pod}:/tmp/there", f"{tmp_path}/back", "-c", "app")
    back = tmp_path / "back"
    assert (back / "a b").read_text() == "with a space\n"
    assert os.access(back / "deep" / "run", os.X_OK)
    assert (back / "deep" / "empty").is_dir()
    assert not (back / "link").is_symlink()
    assert "skipping 'there/link'" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["{here}/none", "ours:/tmp/x"], "no such file or directory", id="no file here"),
        pytest.param(["ours:/none", "{here}/x"], "tar ended with exit code", id="no file there"),
        pytest.param(["nosuch:/x", "{here}/x"], 'pods "nosuch" not found', id="no pod"),
        pytest.param(["{here}/x", "{here}/y"], "one of the two must be in a pod", id="no pod named"),
        pytest.param(["{here}", "ours:/none/x"], "tar ended with exit code", id="no directory there"),
    ],
)  # fmt: skip
def test_what_cp_refuses(node, pod, tmp_path, words, said) -> None:
    done = node.run("cp", *(word.format(here=tmp_path) for word in words), check=False)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr


def test_an_image_without_tar_borrows_that_of_another_container(newest, node, tmp_path) -> None:
    """Both ways, by our cp and by kubectl's."""
    node.pod("bare", shell("rm /bin/tar; echo hello > /hello; exec sleep 1000"))
    try:
        eventually(lambda: node.exec("bare", "cat", "/hello", check=False))
        (tmp_path / "in").write_text("from here\n")
        for words in (("bare:/hello", f"{tmp_path}/out"), (f"{tmp_path}/in", "bare:/in")):
            refused = node.run("cp", *words, check=False)
            assert (refused.returncode, "--target=app" in refused.stderr) == (1, True)
        node.run(
            "debug", "bare", "--image=busybox:1.36", "--target=app", "-c", "tools", "--", "sleep", "1000"
        )  # fmt: skip
        eventually(lambda: node.exec("bare", "echo", "up", container="tools", check=False))
        for number, cp in enumerate((node.run, newest)):
            cp("cp", "-c", "tools", "bare:/proc/1/root/hello", f"{tmp_path}/out{number}")
            assert (tmp_path / f"out{number}").read_text() == "hello\n"
            cp("cp", "-c", "tools", f"{tmp_path}/in", f"bare:/proc/1/root/in{number}")
            assert node.exec("bare", "cat", f"/in{number}", container="app") == "from here\n"
    finally:
        node.delete("bare")


# -- port-forward


@contextlib.contextmanager
def forwarding(node, *words: str, lines: int = 1):
    """Run our port-forward; yield the process and its local addresses."""
    command = [*node.command, "port-forward", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            said = [process.stdout.readline() for _ in range(lines)]
            yield process, [re.fullmatch(r"Forwarding from (.*):(\d+) -> \d+\n", s) for s in said]
        finally:
            process.kill()


def test_several_ports_and_addresses_are_forwarded(node, pod) -> None:
    words = ("--address", "127.0.0.1,127.0.0.2", pod, ":8080", ":8080")
    with forwarding(node, *words, lines=4) as (process, places):
        assert [p[1] for p in places] == ["127.0.0.1", "127.0.0.2"] * 2
        assert places[0][2] == places[1][2] != places[2][2]
        assert all(fetch(int(p[2])).endswith(b"hello from the pod\n") for p in places[::2])
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_localhost_is_both_loopbacks_with_one_port(node, pod) -> None:
    with forwarding(node, pod, ":8080") as (_, [place]):
        assert place[1] == "127.0.0.1"
        assert fetch(int(place[2])).endswith(b"hello from the pod\n")


def test_a_port_that_is_taken_is_told(node, pod) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = node.run("port-forward", "--address", "127.0.0.1", pod, f"{port}:80", check=False)
    assert done.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}: address already in use" in done.stderr


def test_a_refused_port_is_told_and_the_others_go_on(node, pod) -> None:
    words = ("--address", "127.0.0.1", pod, ":9", ":8080")
    with forwarding(node, *words, lines=2) as (process, places):
        with contextlib.suppress(ConnectionError):
            assert fetch(int(places[0][2])) == b""
        assert "error forwarding port 9: " in process.stderr.readline()
        assert fetch(int(places[1][2])).endswith(b"hello from the pod\n")
