"""exec, attach, cp, logs and port-forward by every kubectl: over SPDY up to 1.29, over WebSockets from 1.30 on."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
import re
import socket
import subprocess
import time

import pytest

from tests.node import eventually, shell, sleeper

# Ready when it listens, and not when its shell runs.
WEB = shell(
    "mkdir -p /www && echo hello from the pod > /www/index.html && exec httpd -f -p 8080 -h /www", "web",
    readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1},
)  # fmt: skip
# Says its first three lines at once, the others when it is told to: two pipes have no order.
TALKS = """
for i in 1 2 3; do echo line $i; done
until [ -e /tmp/a ]; do sleep 0.05; done; echo to stderr >&2
until [ -e /tmp/b ]; do sleep 0.05; done; echo last
"""


@pytest.fixture(scope="module")
def pod(node):
    """A pod with two containers: a web server, and one that waits."""
    node.pod("streams", WEB, sleeper("app"))
    yield "streams"
    node.delete("streams")


def words(kubectl, *more: str) -> list[str]:
    return [kubectl.path, "--kubeconfig", kubectl.kubeconfig, *more]


def test_exec_keeps_streams_apart_and_tells_the_code(kubectl, pod) -> None:
    done = kubectl.run(
        "exec", pod, "-c", "app", "--", "sh", "-c", "echo out; echo err >&2; exit 3", check=False
    )
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert done.stderr == "err\ncommand terminated with exit code 3\n"


def test_five_megabytes_go_in_and_come_out_whole(kubectl, pod) -> None:
    blob = os.urandom(5 << 20)
    done = subprocess.run(
        words(kubectl, "exec", "-i", pod, "-c", "app", "--", "cat"),
        input=blob, capture_output=True, check=True, timeout=50,
    )  # fmt: skip
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(blob).digest()


def test_words_of_an_exec_may_be_long(kubectl, pod) -> None:
    """Of one the kernel takes 128 KiB; all are in the first line of a request."""
    said = kubectl("exec", pod, "-c", "app", "--", "sh", "-c", "echo $#", *["x" * 100_000] * 4)
    assert said == "3\n"


def test_exec_of_what_is_not_there_says_why(kubectl, pod) -> None:
    assert "nosuch" in kubectl.fails("exec", pod, "-c", "app", "--", "nosuch")
    assert "container nosuch is not valid for pod streams" in kubectl.fails(
        "exec", pod, "-c", "nosuch", "--", "true"
    )
    assert 'pods "nosuch" not found' in kubectl.fails("exec", "nosuch", "--", "true")


def test_files_are_copied_both_ways(kubectl, pod, tmp_path) -> None:
    (tmp_path / "dir").mkdir()
    blob = os.urandom(300_000)
    (tmp_path / "dir" / "blob").write_bytes(blob)
    kubectl("cp", f"{tmp_path}/dir", f"{pod}:/tmp/{kubectl.version[1]}", "-c", "app")
    kubectl("cp", f"{pod}:/tmp/{kubectl.version[1]}", f"{tmp_path}/back", "-c", "app")
    assert (tmp_path / "back" / "blob").read_bytes() == blob


@contextlib.contextmanager
def forwarding(command: list[str]):
    """Run a port-forward; yield its local port."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            line = process.stdout.readline()
            found = re.search(r":(\d+) -> ", line)
            assert found, line + process.stderr.read()
            yield int(found[1]), process
        finally:
            process.terminate()


def fetch(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(4096), b""))


def test_many_connections_are_forwarded_at_once(kubectl, pod) -> None:
    command = words(kubectl, "port-forward", "--address", "127.0.0.1", f"pod/{pod}", ":8080")
    with forwarding(command) as (port, _), concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: fetch(port), range(30)))
    assert all(a.endswith(b"hello from the pod\n") for a in answers)


def test_a_refused_port_is_told(kubectl, pod) -> None:
    command = words(kubectl, "port-forward", "--address", "127.0.0.1", f"pod/{pod}", ":9")
    with forwarding(command) as (port, process):
        with contextlib.suppress(ConnectionError):
            assert fetch(port) == b""
        assert "connection refused" in process.stderr.readline()


def test_attach_follows_output_and_writes_stdin(kubectl, node) -> None:
    """With stdinOnce the container reads the end of its stdin when the client has sent all."""
    name = f"reads-{kubectl.version[1]}"
    node.pod(
        name,
        {"name": "app", "command": ["sh", "-c", "cat; echo end"], "stdin": True, "stdinOnce": True},
        restartPolicy="Never",
    )
    try:
        done = kubectl.run("attach", "-i", name, text="first\nsecond\n")
        assert done.stdout == "first\nsecond\nend\n"
    finally:
        node.delete(name)


def test_what_was_said_before_the_attachment_is_heard(kubectl, node) -> None:
    """By the one client that stdinOnce means."""
    name = f"early-{kubectl.version[1]}"
    script = "echo early; while read x; do echo got $x; done"
    node.pod(name, shell(script, stdin=True, stdinOnce=True), restartPolicy="Never")
    eventually(lambda: node.run("logs", name).stdout == "early\n")
    try:
        assert kubectl.run("attach", "-i", name, text="this\n").stdout == "early\ngot this\n"
    finally:
        node.delete(name)


def test_run_with_rm_leaves_nothing(kubectl, node) -> None:
    name = f"once-{kubectl.version[1]}"
    done = kubectl.run(
        "run", name, "--rm", "-i", "--restart=Never", "--image=busybox:1.36", "--image-pull-policy=IfNotPresent",
        "--", "sh", "-c", "read line; echo got $line", text="this\n",
    )  # fmt: skip
    assert "got this" in done.stdout
    # It does not wait for the end of what it removes.
    eventually(lambda: kubectl.run("get", "pod", name, check=False).returncode == 1)


def test_logs_are_followed_to_the_end(kubectl, node) -> None:
    name = f"talks-{kubectl.version[1]}"
    node.pod(name, shell(TALKS), restartPolicy="Never")
    try:
        with subprocess.Popen(
            words(kubectl, "logs", "-f", name), stdout=subprocess.PIPE, text=True
        ) as follower:
            try:
                said = [follower.stdout.readline() for _ in range(3)]
                node.exec(name, "touch", "/tmp/a")
                said.append(follower.stdout.readline())
                second = int(time.time())
                eventually(lambda: int(time.time()) > second)  # the last line is of a later one
                node.exec(name, "touch", "/tmp/b", check=False)  # its container may end first
                said += follower.stdout.readlines()
            finally:
                follower.kill()
        assert said == ["line 1\n", "line 2\n", "line 3\n", "to stderr\n", "last\n"]
        assert kubectl("logs", "--tail=1", name) == "last\n"
        assert kubectl("logs", "--limit-bytes=6", name) == "line 1"
        stamped = kubectl("logs", "--timestamps", "--tail=1", name)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z last\n", stamped)
        since = f"--since-time={stamped[:19]}Z"
        assert kubectl("logs", since, name) == "last\n"
        assert node.run("logs", since, name).stdout == "last\n"
        assert len(kubectl("logs", "--since=1h", name).splitlines()) == 5
        assert "previous terminated container" in kubectl.fails("logs", "-p", name)
    finally:
        node.delete(name)
