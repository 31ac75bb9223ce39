"""What the verbs print, read as a person reads it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE

from minipod.daemon.node import node_pids, service_pids
from tests.node import MINIPOD, PATIENCE, Node, eventually, sleeper
from tests.root.conftest import INSTANCE


@contextlib.contextmanager
def not_yet_up() -> Iterator[tuple[Node, Callable[[], subprocess.Popen[str]]]]:
    """A second node, and what starts it."""
    node = Node(f"{INSTANCE}l")

    def up() -> subprocess.Popen[str]:
        return subprocess.Popen([*node.command, "up"], stdout=PIPE, stderr=PIPE, text=True)

    try:
        yield node, up
    finally:
        node.run("reset", "-y")


def test_who_starts_a_node_that_another_starts_waits_for_it() -> None:
    with not_yet_up() as (node, up):
        starting = [up() for _ in range(3)]
        told = [process.communicate(timeout=100 * PATIENCE)[0] for process in starting]
        name = node.instance.name
        wanted = [
            f"node {name} is up\n",
            f"node {name} runs already\n",
            f"node {name} runs already\n",
        ]
        assert sorted(told) == wanted
        assert not any(process.returncode for process in starting)
        assert node.is_up()


def test_a_start_that_was_broken_off_is_no_error_of_the_next() -> None:
    """Ctrl-C leaves a supervisor that goes on starting."""
    with not_yet_up() as (node, up):
        first = up()
        eventually(lambda: node_pids(node.instance))
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=100 * PATIENCE)
        assert node.run("up").stdout in (
            f"node {node.instance.name} is up\n",
            f"node {node.instance.name} runs already\n",
        )


def test_a_daemon_that_can_not_start_is_told_and_leaves_no_supervisor() -> None:
    """Which would know the old settings only, and be in the way of the next start."""
    with not_yet_up() as (node, up):
        in_the_way = Path(node.instance.static_pod_dir)
        in_the_way.parent.mkdir()
        in_the_way.write_text("")
        process = up()
        _, told = process.communicate(timeout=100 * PATIENCE)
        assert process.returncode == 1
        assert told.startswith("error: the node ended while starting:\n")
        assert f"File exists: '{in_the_way}'" in told
        assert "\nhint: see " in told
        assert not service_pids(node.instance)
        in_the_way.unlink()
        assert node.run("up").stdout == f"node {node.instance.name} is up\n"


def test_down_says_what_it_waits_for() -> None:
    with not_yet_up() as (node, _):
        node.run("up")
        container = {"name": "app", "image": "none:1", "imagePullPolicy": "Never"}
        node.pod("there", container, wait="")
        assert node.run("down").stderr == "stopping the pods (1), each with its grace period\n"
        node.run("up")
        assert node.run("down").stderr == ""


def test_status_names_the_nodes_processes(node) -> None:
    told = json.loads(node.run("status", "-o", "json").stdout)
    roles = ("pid", "supervisor_pid", "pump_pid", "prober_pid")
    assert {told[role] for role in roles} == {node.status()[role] for role in roles}
    assert str(told["pid"]) in node.run("status").stdout


def test_describe_shows_the_words_of_events(node, pods) -> None:
    pods.append("told")
    node.pod("told", sleeper())
    node.await_event("told", reason="Started")
    said = node.run("describe", "pod", "told").stdout
    assert re.search(r"Normal +Started +Started container app$", said, re.MULTILINE)
    assert re.search(r"Normal +Pulled +Container image .* already present", said)


def test_describe_of_a_type_is_one_of_each(node, pods) -> None:
    for name in ("one", "two"):
        pods.append(name)
        node.pod(name, sleeper())
    said = node.run("describe", "pods").stdout
    assert re.findall(r"^Name: +(one|two)$", said, re.MULTILINE) == ["one", "two"]
    assert said.count("\nEvents:") == said.count("Name: ")
    assert "managedFields" not in node.run("get", "pods", "-o", "yaml").stdout


def test_steps_tell_what_made_a_container_and_what_asked_for_it(node, pods) -> None:
    pods.append("made")
    volume, mount = (
        {"name": "v", "emptyDir": {}},
        {"name": "v", "mountPath": "/v", "readOnly": True},
    )
    node.pod("made", sleeper(volumeMounts=[mount]), volumes=[volume])
    said = node.run("steps", "made").stdout.splitlines()
    assert said[0].startswith("[main, new pid, cgroup ")
    assert said[-2:] == ["[execute]", "execve sleep 1000"]
    (bound,) = [line for line in said if " at /v (read-only) " in line]
    assert bound.endswith("# spec.containers[0].volumeMounts[0]")
    order = [
        next(i for i, s in enumerate(said) if s.startswith(w))
        for w in ("unshare", "bind", "pivot_root")
    ]
    assert order == sorted(order)
    refused = node.run("steps", "made", "-c", "other", check=False)
    assert refused.stderr == "error: pod made has no container other\nhint: made: app\n"


def test_get_watches_in_the_columns_of_its_header(node, pods) -> None:
    pods.append("seen")
    node.pod("seen", sleeper())
    command = [MINIPOD, "--instance", node.instance.name, "get", "pods", "-A", "-w"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        header, first = watching.stdout.readline(), watching.stdout.readline()
        node.delete("seen")
        change = watching.stdout.readline()
        watching.terminate()
    for column in ("NAME ", "READY", "STATUS"):
        at = header.index(column)
        assert first[at - 1] == change[at - 1] == " "
        assert first[at] != " " != change[at]
    assert change.startswith("default ")


def test_run_prints_the_warnings_of_its_own_pod_only(node) -> None:
    """A pod of the same name was there before: the second one's warning names its own uid, once."""
    manifest = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: again}\nspec:\n  restartPolicy: Never\n"
        "  containers:\n  - {name: app, image: busybox, command: [sh, -c, sleep 0.3]}\n"
    )
    node.run("run", "-", text=manifest)
    said = node.run("run", "-", text=manifest).stderr
    assert len(re.findall("MissingClusterDNS", said)) <= 1
