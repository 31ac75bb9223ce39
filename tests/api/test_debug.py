"""debug by every kubectl and by our own verb: an ephemeral container, a copy of a pod, a pod that has the node."""

from __future__ import annotations

import contextlib
import os

import pytest

from tests.node import eventually, shell, sleeper

IMAGE = "--image=busybox:1.36"
ATTACHED = "read line"  # what is said before the client is attached is only in the log
NOT_PULLED = "--image-pull-policy=IfNotPresent"


@pytest.fixture(scope="module")
def pod(node):
    """A pod whose two containers differ in what they run; a probe tells a copy."""
    probe = {"exec": {"command": ["true"]}}
    app = {"name": "app", "command": ["sleep", "4711"], "readinessProbe": probe}
    node.pod("buggy", app, sleeper("other"))
    yield "buggy"
    node.delete("buggy")


@contextlib.contextmanager
def gone_afterwards(node, *names: str):
    try:
        yield
    finally:
        node.delete(*names)


def node_debuggers(node) -> dict[str, dict]:
    pods = node.client.request("GET", "/api/v1/namespaces/default/pods")["items"]
    return {p["metadata"]["name"]: p for p in pods if "node-debugger" in p["metadata"]["name"]}


def test_an_ephemeral_container_sees_its_target(kubectl, pod) -> None:
    """Excluded: that it sees the pod's other container, which has a pid namespace of its own."""
    said = kubectl(
        "debug", pod, "-i", "--quiet", IMAGE, NOT_PULLED, "--target=app", "--",
        "sh", "-c", f"{ATTACHED}; ps -o args", text="go\n",
    )  # fmt: skip
    assert "sleep 4711" in said
    assert "sleep 1000" not in said


def test_a_copy_has_one_container_more_and_shares_its_processes(kubectl, pod, node) -> None:
    name = f"copy-{kubectl.version[1]}"
    with gone_afterwards(node, name):
        said = kubectl(
            "debug", pod, "-i", "--quiet", IMAGE, NOT_PULLED, f"--copy-to={name}", "-c", "look",
            "--share-processes", "--", "sh", "-c", f"{ATTACHED}; until ps | grep -v grep | grep 4711; do :; done",
            text="go\n",
        )  # fmt: skip
        assert "sleep 4711" in said
        assert [c["name"] for c in node.get(name)["spec"]["containers"]] == ["app", "other", "look"]


def test_the_node_is_at_host_with_its_processes_and_network(newest, node) -> None:
    before = node_debuggers(node)
    name = node.client.request("GET", "/api/v1/nodes")["items"][0]["metadata"]["name"]
    script = (
        f"{ATTACHED}; readlink /proc/self/ns/net; cat /host/etc/hostname; ls -d /proc/{os.getpid()}"
    )
    try:
        said = newest(
            "debug", f"node/{name}", "-i", "--quiet", IMAGE, NOT_PULLED, "--", "sh", "-c", script,
            text="go\n",
        )  # fmt: skip
        lines = said.splitlines()
        with open("/etc/hostname", encoding="utf-8") as f:
            assert lines[-3:] == [
                os.readlink("/proc/self/ns/net"), f.read().strip(), f"/proc/{os.getpid()}",
            ]  # fmt: skip
    finally:
        node.delete(*(node_debuggers(node).keys() - before.keys()))


# -- our own


def test_our_debug_attaches_and_passes_stdin(node, pod) -> None:
    script = "read line; echo got $line; ps -o args"
    done = node.run(
        "debug", pod, "-i", IMAGE, "--target=app", "-c", "own", "--", "sh", "-c", script, text="this\n"
    )  # fmt: skip
    assert done.stdout.startswith("got this\n")
    assert "sleep 4711" in done.stdout
    spec = node.get(pod)["spec"]["ephemeralContainers"][-1]
    assert (spec["name"], spec["targetContainerName"]) == ("own", "app")


def test_our_debug_loses_nothing_of_a_short_command(node, pod) -> None:
    done = node.run("debug", pod, "--attach", IMAGE, "--", "sh", "-c", "echo short; exit")
    assert done.stdout == "short\n"
    assert "Defaulting debug container name to debugger-" in done.stderr


def test_our_copy_changes_a_container_and_replaces_the_pod(node) -> None:
    node.pod("first", shell("exit 1", "app"), wait="")
    with gone_afterwards(node, "first", "second"):
        node.run(
            "debug", "first", "--copy-to=second", "--replace", "-c", "app", "--env", "A=b",
            "--", "sh", "-c", "echo $A; exec sleep 1000",
        )  # fmt: skip
        node.run("wait", "pod/second", "--for=condition=Ready")
        eventually(lambda: node.run("logs", "second").stdout == "b\n")
        node.run("wait", "pod/first", "--for=delete")


def test_our_copy_has_no_probes_and_other_images(node, pod) -> None:
    with gone_afterwards(node, "imaged"):
        node.run("debug", pod, "--copy-to=imaged", "--set-image", "*=nosuch:1")
        spec = node.get("imaged")["spec"]
        assert {c["image"] for c in spec["containers"]} == {"nosuch:1"}
        assert "readinessProbe" not in spec["containers"][0]


def test_our_debug_of_the_node(node) -> None:
    before = node_debuggers(node)
    name = node.client.request("GET", "/api/v1/nodes")["items"][0]["metadata"]["name"]
    try:
        done = node.run(
            "debug", f"node/{name}", "-i", IMAGE, "--profile=sysadmin", "--",
            "sh", "-c", f"{ATTACHED}; chroot /host readlink /proc/self/ns/pid", text="go\n",
        )  # fmt: skip
        assert done.stdout == f"{os.readlink('/proc/self/ns/pid')}\n"
        assert "Creating debugging pod node-debugger-" in done.stderr
    finally:
        node.delete(*(node_debuggers(node).keys() - before.keys()))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["buggy"], "you must specify --image", id="no image"),
        pytest.param(["nosuch", IMAGE], 'pods "nosuch" not found', id="no such pod"),
        pytest.param(["node/nosuch", IMAGE], 'nodes "nosuch" not found', id="no such node"),
        pytest.param(["buggy", IMAGE, "--target=x"], "container x is not valid", id="no such target"),
        pytest.param(["buggy", IMAGE, "-c", "app"], "app", id="a name that is taken"),
        pytest.param(["buggy", "--copy-to=c"], "existing container or --image", id="a copy of what"),
        pytest.param(["buggy", "--copy-to=c", "--set-image=x=y"], "'x'", id="image of no container"),
        pytest.param(["deploy/x", IMAGE], "takes a pod or node/NAME", id="another kind"),
        pytest.param(["buggy", IMAGE, "-t"], "-i/--stdin is required", id="a terminal without stdin"),
    ],
)  # fmt: skip
def test_what_our_debug_refuses(node, pod, words, said) -> None:
    """And nothing is made of it."""
    done = node.run("debug", *words, check=False)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
